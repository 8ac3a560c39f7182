# SPDX-License-Identifier: Apache-2.0
import asyncio
import json

import pytest

from kedge.api.keys import ObjectKey
from kedge.errors import AlreadyExists, Closed, Conflict, Gone, Rejected
from kedge.store import ABSENT, Store, delete, put


def key(name):
    return ObjectKey("", "configmaps", "default", name)


def value(name, **data):
    return json.dumps({"metadata": {"name": name, "labels": {"app": name}}, "data": data}).encode()


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store", mode="primary", history=50)
    yield store
    store.close()


async def test_a_commit_answers_with_revisions_and_is_read_back(store):
    pump = asyncio.ensure_future(store.run())
    try:
        assert await store.commit(
            [put(key("a"), value("a"), ABSENT), put(key("b"), value("b"))]
        ) == [1, 2]
        assert json.loads(store.get(key("b")).value)["metadata"]["resourceVersion"] == "2"
        with pytest.raises(AlreadyExists):
            await store.commit([put(key("a"), value("a"), ABSENT)])
        with pytest.raises(Conflict):
            await store.commit([delete(key("a"), 7)])
    finally:
        pump.cancel()


async def test_a_watch_yields_what_came_before_and_after_it_started(store):
    store.commit_now([put(key("a"), value("a"))])
    watch = store.watch([("", "configmaps")], from_revision=0)
    seen = []
    async for batch in watch:
        seen += batch
        if len(seen) == 1:
            store.commit_now([put(key("a"), value("a", x="1")), delete(key("z"))])
        if len(seen) == 2:
            break
    assert [(event.type, event.revision, event.created) for event in seen] == [
        ("PUT", 1, True),
        ("PUT", 2, False),
    ]
    assert json.loads(seen[1].previous)["data"] == {}


def test_lists_page_and_select(store):
    store.commit_now([put(key(name), value(name)) for name in "abcde"])
    first = store.list("", "configmaps", limit=3)
    rest = store.list("", "configmaps", limit=3, continue_token=first.continue_token)
    assert [item.key.name for item in first.items + rest.items] == list("abcde")
    assert [
        item.key.name for item in store.list("", "configmaps", labels="app in (b, d)").items
    ] == ["b", "d"]


def test_a_revision_older_than_the_history_is_gone(store):
    for number in range(80):
        store.commit_now([put(key("a"), value("a", n=str(number)))])
    with pytest.raises(Gone):
        store.watch(from_revision=1)


def test_a_second_opener_is_refused_and_a_closed_store_says_so(store, tmp_path):
    with pytest.raises(Rejected):
        Store.open(tmp_path / "store", mode="primary")
    store.close()
    with pytest.raises(Closed):
        store.get(key("a"))
