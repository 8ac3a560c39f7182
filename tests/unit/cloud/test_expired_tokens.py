# SPDX-License-Identifier: Apache-2.0
"""Join tokens that expired are removed after a while, and nothing else is."""

from __future__ import annotations

from kedge.api.keys import ObjectKey
from kedge.cloud.expired_tokens import KEPT_SECONDS, ExpiredTokens
from kedge.hub import tokens
from tests.fakes.kubernetes import FakeApi


def key(name):
    return ObjectKey("", "secrets", tokens.NAMESPACE, name)


async def test_only_tokens_that_expired_long_ago_are_removed():
    api = FakeApi()
    for name, expires in (("old", 100), ("recent", 200)):
        grant = tokens.Grant(name, expires)
        await api.create(key(grant.secret_name), tokens.to_secret(grant, 0))
    strange = {"metadata": {"name": "x", "labels": {tokens.LABEL: "true"}}, "data": {}}
    await api.create(key("x"), strange)
    await api.create(key("kedge-ca"), {"metadata": {"name": "kedge-ca"}, "data": {}})
    await ExpiredTokens(api).sweep(100 + KEPT_SECONDS)
    left = {one.name for one in api.objects}
    assert left == {"join-token-recent", "x", "kedge-ca"}
