# SPDX-License-Identifier: Apache-2.0
"""How long a bootstrap token has left."""

from __future__ import annotations

import pytest

from kedge.cluster.controllers.bootstrap_tokens import remaining
from tests.fakes.requests import encoded

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("expiration", "left"),
    [
        ("2027-01-15T08:00:10Z", 10.0),
        ("2027-01-15T09:00:10+01:00", 10.0),
        ("2027-01-15T07:59:59Z", 0.0),
        ("2027-01-15T08:00:10", 0.0),
        ("tomorrow", 0.0),
        ("", None),
    ],
)
def test_a_token_has_left_what_it_says_and_nothing_when_that_is_unreadable(expiration, left):
    assert remaining({"data": {"expiration": encoded(expiration)}}, NOW) == left


def test_a_token_that_says_nothing_stays():
    assert remaining({}, NOW) is None
    assert remaining({"data": {"expiration": "!"}}, NOW) == 0.0
