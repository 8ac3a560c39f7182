# SPDX-License-Identifier: Apache-2.0
"""What the cloud role can be told, and how it refuses the rest."""

from __future__ import annotations

import pytest

from kedge import config
from kedge.cloud.config import CloudConfig
from kedge.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listen: nonsense", "listen: got: 'nonsense', wanted: ADDRESS:PORT"),
        ("listen: '0.0.0.0:70000'", "wanted: ADDRESS:PORT such as 0.0.0.0:10000"),
        (
            "leaseSeconds: 40",
            "leaseSeconds: got: 40, wanted: a whole number, at least 1, at most 30",
        ),
        ("nodeDomain: nodes.example", "nodeDomain: got: 'nodes.example', wanted: DOMAIN:PORT"),
        ("nodeDomain: '[::1]:6443'", "nodeDomain: got: '[::1]:6443', wanted: DOMAIN:PORT"),
        ("advertise: hub.example", "advertise: got: 'hub.example', wanted: a list, each text"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(tmp_path, text, says):
    path = tmp_path / "cloud.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(CloudConfig, path, {})
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_every_setting_is_described():
    described = config.descriptions(CloudConfig)
    assert set(described) == set(CloudConfig.__slots__)
