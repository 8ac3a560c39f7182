# SPDX-License-Identifier: Apache-2.0
"""The mirror against our own API server: a replica that stays equal."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.kube import KubeClient, Mirror, MirrorRow
from kedge.store import Store, put
from tests.integration.kubeapi.conftest import Api, Keys, pod, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from kedge.runtime import Runtime

ROWS = [MirrorRow("", "pods"), MirrorRow("", "configmaps")]


def key(name: str) -> ObjectKey:
    return ObjectKey("", "pods", "default", name)


def stored(store: Store, name: str) -> dict[str, Any] | None:
    found = store.get(key(name))
    return json.loads(found.value) if found else None


async def until(what: Any) -> None:
    for _ in range(200):
        if what():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to that")


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "replica", mode="replica")
    yield store
    store.close()


@contextlib.asynccontextmanager
async def mirrored(api: Api, replica: Store, rows: list[MirrorRow] = ROWS) -> AsyncIterator[None]:
    mirror = Mirror(api.runtime, KubeClient(api.runtime, api.cluster()), replica, rows)
    task = asyncio.ensure_future(mirror.run())
    await asyncio.wait_for(mirror.synced(), 10)
    yield
    mirror.close()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_what_is_there_and_what_comes_is_mirrored_unchanged(api: Api, replica: Store) -> None:
    api.put(pod("a"))
    async with mirrored(api, replica):
        assert stored(replica, "a") == json.loads(api.store.get(key("a")).value)
        api.put(pod("b"))
        await until(lambda: stored(replica, "b"))
        api.put(pod("a", nodeName="n"))
        await until(lambda: stored(replica, "a")["spec"].get("nodeName") == "n")
        api.delete(pod("a"))
        await until(lambda: stored(replica, "a") is None)
        assert stored(replica, "b") == json.loads(api.store.get(key("b")).value)


async def test_a_long_list_comes_in_pages(api: Api, replica: Store) -> None:
    for number in range(1_203):
        api.put(pod(f"p{number}"))
    async with mirrored(api, replica):
        assert len(replica.list("", "pods").items) == 1_203


async def test_what_vanished_while_away_is_deleted_and_what_is_equal_not_written(
    api: Api, replica: Store
) -> None:
    for name in ("a", "b", "c"):
        api.put(pod(name))
    async with mirrored(api, replica):
        pass
    api.delete(pod("b"))
    api.put(pod("c", nodeName="n"))
    before = replica.revision
    async with mirrored(api, replica):
        assert stored(replica, "b") is None
        assert stored(replica, "c")["spec"]["nodeName"] == "n"
        assert replica.revision == before + 2


async def test_only_what_the_field_selector_names_is_mirrored(api: Api, replica: Store) -> None:
    api.put(pod("a", nodeName="n"))
    api.put(pod("b"))
    rows = [MirrorRow("", "pods", fields="spec.nodeName!=")]
    async with mirrored(api, replica, rows):
        assert (stored(replica, "a") is not None, stored(replica, "b")) == (True, None)
        api.put(pod("b", nodeName="n"))
        await until(lambda: stored(replica, "b"))
        api.put(pod("a"))
        await until(lambda: stored(replica, "a") is None)


async def test_a_server_that_restarts_and_has_forgotten_its_history_is_listed_again(
    runtime: Runtime, tmp_path: Path, keys: Keys, replica: Store
) -> None:
    api = serve(runtime, tmp_path, keys, history=10)
    for name in ("a", "b"):
        api.put(pod(name))
    async with mirrored(api, replica):
        api.server.close()
        api.delete(pod("a"))
        for number in range(30):
            api.put(pod(f"p{number}"))
        again = serve(runtime, tmp_path, keys, port=api.port, store=api.store)
        await until(lambda: stored(replica, "p29"))
        assert stored(replica, "a") is None
        again.put(pod("after"))
        await until(lambda: stored(replica, "after"))
    again.server.close()
    api.store.close()


async def test_objects_of_other_resources_in_the_store_are_left_alone(
    api: Api, replica: Store
) -> None:
    other = ObjectKey("kedge.io", "serviceaccounttokens", "default", "t")
    replica.commit_now([put(other, b'{"metadata":{"name":"t"}}')])
    async with mirrored(api, replica):
        assert replica.get(other) is not None


async def test_a_kind_that_the_server_does_not_have_is_as_good_as_empty_if_it_may_be(
    api: Api, replica: Store
) -> None:
    old = ObjectKey("example.com", "gadgets", "", "old")
    replica.commit_now([put(old, b'{"metadata":{"name":"old"}}')])
    api.put(pod("a"))
    rows = [MirrorRow("", "pods"), MirrorRow("example.com", "gadgets", optional=True)]
    async with mirrored(api, replica, rows):
        assert stored(replica, "a") is not None
        assert replica.get(old) is None
