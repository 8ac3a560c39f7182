# SPDX-License-Identifier: Apache-2.0
"""Reading kubeconfig files."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kedge.errors import ConfigError
from kedge.kube.kubeconfig import load

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, **changes: Any) -> Path:
    config: dict[str, Any] = {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": "https://h:6443", "certificate-authority": "ca.crt"},
            }
        ],
        "users": [{"name": "u", "user": {"token": "t"}}],
        **changes,
    }
    (path / "ca.crt").write_text("CA")
    file = path / "config"
    file.write_text(yaml.safe_dump(config))
    return file


def test_the_current_context_names_server_and_token(tmp_path: Path) -> None:
    cluster = load(write(tmp_path))
    assert (cluster.server, cluster.ca, cluster.token) == ("https://h:6443", "CA", "t")


def test_inline_data_counts_before_files_and_files_lie_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "client.crt").write_text("FILE")
    user = {
        "client-certificate": "client.crt",
        "client-key": "missing.key",
        "client-key-data": base64.b64encode(b"KEY").decode(),
    }
    cluster = load(write(tmp_path, users=[{"name": "u", "user": user}]))
    assert (cluster.certificate, cluster.key) == ("FILE", "KEY")


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    file = write(tmp_path)
    with pytest.raises(ConfigError, match="contexts: no entry named: 'two'"):
        load(file, "two")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current-context": ""}, "current-context: missing"),
        ({"users": []}, "users: no entry named: 'u'"),
        ({"clusters": "none"}, "clusters: no entry named: 'c'"),
        ({"users": [{"name": "u", "user": {"exec": {"command": "x"}}}]}, "exec: not supported"),
        (
            {"users": [{"name": "u", "user": {"client-key-data": "%%"}}]},
            "client-key-data: not base64",
        ),
        ({"users": [{"name": "u", "user": {"client-key": "gone"}}]}, "client-key: cannot be read"),
        (
            {"clusters": [{"name": "c", "cluster": {"insecure-skip-tls-verify": True}}]},
            "insecure-skip-tls-verify: not supported",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write(tmp_path, **changes))


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    assert "'t'" not in repr(load(write(tmp_path)))
