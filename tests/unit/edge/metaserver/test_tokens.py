# SPDX-License-Identifier: Apache-2.0
"""Tokens that the node signs: when, what they say, and when they go again."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.objects import NODE_TOKENS, TOKENS
from kedge.edge.kubelet.pod.lifecycle import format_time
from kedge.edge.metaserver.objects import NodeObjects
from kedge.edge.metaserver.tokens import TokenKeeper, claims_of, due_at
from kedge.hub import certificates
from kedge.store import Store, delete, put

LIFE = 1000
BEGIN = 1_800_000_000.0
NEVER = float("inf")


def token(expires: float, *, uid: str = "u", audience: str = "") -> dict[str, Any]:
    claims = {
        "iss": "https://cluster",
        "aud": ["https://cluster"],
        "sub": "system:serviceaccount:d:web",
        "exp": int(expires),
        "kubernetes.io": {"namespace": "d", "pod": {"name": "p", "uid": uid}},
    }
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return {
        "metadata": {"name": "p.x", "namespace": "d"},
        "spec": {"podUID": uid, "audience": audience, "expirationSeconds": LIFE},
        "status": {"token": f"h.{payload}.s", "expirationTimestamp": format_time(expires)},
    }


@pytest.mark.parametrize(
    ("name", "cloud", "own", "want"),
    [
        ("a fresh one is left alone to 90 %", token(BEGIN + LIFE), None, BEGIN + 900),
        ("one that was not renewed is due", token(BEGIN + 90), None, BEGIN),
        ("one that ran out long ago is due", token(BEGIN - 9999), None, BEGIN),
        ("the node's own lasts", token(BEGIN - 1), token(BEGIN + 500), BEGIN + 400),
        ("the node's own is renewed too", token(BEGIN - 1), token(BEGIN + 99), BEGIN),
        ("another pod's does not count", token(BEGIN - 1), token(BEGIN + 500, uid="x"), BEGIN),
        ("only the API server's audience", token(BEGIN - 1, audience="vault"), None, NEVER),
        ("nothing to continue", {"spec": {}, "status": {}}, None, NEVER),
    ],
)
def test_when_the_node_signs(name: str, cloud: Any, own: Any, want: float) -> None:
    assert due_at(cloud, own, BEGIN) == want, name


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store.open(tmp_path / "store", mode="replica", durable=False)
    running = asyncio.create_task(opened.run())
    yield opened
    running.cancel()
    opened.close()


async def give(store: Store, one: dict[str, Any]) -> None:
    key = ObjectKey(*TOKENS, "d", one["metadata"]["name"])
    await store.commit([put(key, json.dumps(one).encode())])


async def test_a_pod_gets_the_nodes_token_until_the_cloud_renews_its_own(store: Store) -> None:
    key = certificates.new_key()
    now = [BEGIN]
    keeper = TokenKeeper(store, key, "kedge-node:n1", clock=lambda: now[0])
    objects = NodeObjects(store, "")
    await give(store, token(BEGIN + LIFE))
    assert await keeper.look() == BEGIN + 900
    assert objects.list(*TOKENS, "d") == [token(BEGIN + LIFE)]

    now[0] = BEGIN + 950
    assert await keeper.look() == BEGIN + 950 + 900
    (given,) = objects.list(*TOKENS, "d")
    claims = certificates.jwt_verify(
        [certificates.public_key(key)], given["status"]["token"], now=now[0]
    )
    assert claims["iss"] == "kedge-node:n1"
    assert claims["aud"] == ["kedge-node:n1"]
    assert claims["exp"] == BEGIN + 950 + LIFE
    assert claims["sub"] == "system:serviceaccount:d:web"
    assert claims["kubernetes.io"]["pod"] == {"name": "p", "uid": "u"}
    revision = store.stats()["revision"]
    await keeper.look()
    assert store.stats()["revision"] == revision, "nothing is signed twice"

    await give(store, token(BEGIN + 3000))
    assert objects.list(*TOKENS, "d") == [token(BEGIN + 3000)], "the cloud's counts at once"
    await keeper.look()
    assert not store.list(*NODE_TOKENS).items


async def test_a_token_that_goes_takes_the_nodes_along(store: Store) -> None:
    keeper = TokenKeeper(store, certificates.new_key(), "kedge-node:n1", clock=lambda: BEGIN)
    await give(store, token(BEGIN - 1))
    await keeper.look()
    assert len(store.list(*NODE_TOKENS).items) == 1
    await store.commit([delete(ObjectKey(*TOKENS, "d", "p.x"))])
    assert await keeper.look() == NEVER
    assert not store.list(*NODE_TOKENS).items


async def test_a_token_that_cannot_be_read_is_left_as_it_is(store: Store) -> None:
    keeper = TokenKeeper(store, certificates.new_key(), "kedge-node:n1", clock=lambda: BEGIN)
    odd = token(BEGIN - 1)
    odd["status"]["token"] = "t"
    await give(store, odd)
    await keeper.look()
    assert not store.list(*NODE_TOKENS).items


@pytest.mark.parametrize("text", ["", "a", "a.!.c", "a.bm90LWpzb24.c", "a.WzFd.c"])
def test_what_is_no_token_says_nothing(text: str) -> None:
    assert claims_of(text) is None
