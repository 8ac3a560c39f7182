# SPDX-License-Identifier: Apache-2.0
"""A node takes its own Node along, and nothing else; what cannot be said now is no verdict."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.cloud import leaving, names
from kedge.errors import ApiError, Disconnected, Forbidden
from tests.fakes.kubernetes import FakeApi

KEY = "sha256:one"


def node_key(name: str) -> ObjectKey:
    return ObjectKey("", "nodes", "", name)


async def api_with(*nodes: str, **more: Any) -> FakeApi:
    api = FakeApi()
    for name in nodes:
        await api.create(node_key(name), names.new_node(name, KEY))
    for name, value in more.items():
        setattr(api, name, value)
    return api


def uid(api: FakeApi, name: str) -> str:
    return str(api.objects[node_key(name)]["metadata"]["uid"])


async def test_a_node_deletes_its_own_node_and_may_ask_again():
    api = await api_with("a", "b")
    asked, own = leaving.Leaving(api), uid(api, "a")
    for _ in range(2):
        answer = await asked.answer("a", own, KEY, "10.0.0.1:5")
        assert (answer.status, json.loads(answer.body)) == (200, {"node": "a"})
    assert list(api.objects) == [node_key("b")]


async def test_a_node_of_that_name_that_came_later_stays():
    api = await api_with("a")
    for earlier in ("uid-0", ""):
        answer = await leaving.Leaving(api).answer("a", earlier, KEY, "10.0.0.1:5")
        assert answer.status == 200, "its own is gone"
    assert list(api.objects) == [node_key("a")]


async def test_a_name_that_another_key_took_is_not_its_own():
    api = await api_with("a")
    answer = await leaving.Leaving(api).answer("a", uid(api, "a"), "sha256:two", "10.0.0.1:5")
    assert answer.status == 403
    assert "the name belongs to another key" in json.loads(answer.body)["message"]
    assert list(api.objects) == [node_key("a")]


async def test_a_node_that_changes_in_between_is_looked_at_again(monkeypatch):
    api = await api_with("a")
    whole, looks = api.get, 0

    async def changes(key: ObjectKey, subresource: str = "") -> dict[str, Any]:
        nonlocal looks
        found = await whole(key, subresource)
        looks += 1
        if looks == 1:  # another machine takes the name
            await api.patch(key, {"metadata": {"annotations": {names.PIN: "sha256:two"}}})
        return found

    monkeypatch.setattr(api, "get", changes)
    answer = await leaving.Leaving(api).answer("a", uid(api, "a"), KEY, "10.0.0.1:5")
    assert (answer.status, looks) == (403, 2)
    assert list(api.objects) == [node_key("a")]


@pytest.mark.parametrize(
    ("failure", "status"),
    [(Disconnected("away"), 503), (ApiError("no"), 503), (Forbidden("x"), 403)],
)
async def test_an_api_that_does_not_do_it_is_said(failure, status):
    api = await api_with("a", failures=[failure])
    answer = await leaving.Leaving(api).answer("a", uid(api, "a"), KEY, "10.0.0.1:5")
    assert answer.status == status
    assert str(failure) in json.loads(answer.body)["message"]


async def test_a_node_that_comes_too_often_does_not_reach_the_api():
    api = await api_with()
    asked = leaving.Leaving(api)
    statuses = [
        (await asked.answer("a", "u", KEY, "10.0.0.1:5")).status
        for _ in range(leaving.PER_MINUTE + 1)
    ]
    assert statuses == [200] * leaving.PER_MINUTE + [503]
