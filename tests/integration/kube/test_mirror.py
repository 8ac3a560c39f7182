# SPDX-License-Identifier: Apache-2.0
"""The mirror against our own API server: a replica that stays equal."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.errors import KedgeError
from kedge.kube import KubeClient, Mirror, MirrorRow
from kedge.store import Store, put

from tests.integration.kubeapi.conftest import Api, Keys, pod, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kedge import _core

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


@contextlib.asynccontextmanager
async def mirrored(api: Api, directory: Path, rows: list[MirrorRow] = ROWS) -> AsyncIterator[Store]:
    store = Store.open(directory / "replica", mode="replica")
    mirror = Mirror(api.runtime, KubeClient(api.runtime, api.cluster()), store, rows)
    task = asyncio.ensure_future(mirror.run())
    await asyncio.wait_for(mirror.synced(), 10)
    yield store
    mirror.close()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    store.close()


async def test_what_is_there_and_what_comes_is_mirrored_unchanged(api: Api, tmp_path: Path) -> None:
    api.put(pod("a"))
    async with mirrored(api, tmp_path) as store:
        assert stored(store, "a") == json.loads(api.store.get(key("a")).value)
        api.put(pod("b"))
        await until(lambda: stored(store, "b"))
        api.put(pod("a", nodeName="n"))
        await until(lambda: stored(store, "a")["spec"].get("nodeName") == "n")
        api.delete(pod("a"))
        await until(lambda: stored(store, "a") is None)
        assert stored(store, "b") == json.loads(api.store.get(key("b")).value)


async def test_a_long_list_comes_in_pages(api: Api, tmp_path: Path) -> None:
    for number in range(1_203):
        api.put(pod(f"p{number}"))
    async with mirrored(api, tmp_path) as store:
        assert len(store.list("", "pods").items) == 1_203


async def test_what_vanished_while_away_is_deleted_and_what_is_equal_not_written(
    api: Api, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        api.put(pod(name))
    async with mirrored(api, tmp_path):
        pass
    api.delete(pod("b"))
    api.put(pod("c", nodeName="n"))
    store = Store.open(tmp_path / "replica", mode="replica")
    before = store.revision
    store.close()
    async with mirrored(api, tmp_path) as store:
        assert stored(store, "b") is None
        assert stored(store, "c")["spec"]["nodeName"] == "n"
        assert store.revision == before + 2


async def test_only_what_the_field_selector_names_is_mirrored(api: Api, tmp_path: Path) -> None:
    api.put(pod("a", nodeName="n"))
    api.put(pod("b"))
    rows = [MirrorRow("", "pods", fields="spec.nodeName!=")]
    async with mirrored(api, tmp_path, rows) as store:
        assert (stored(store, "a") is not None, stored(store, "b")) == (True, None)
        api.put(pod("b", nodeName="n"))
        await until(lambda: stored(store, "b"))
        api.put(pod("a"))
        await until(lambda: stored(store, "a") is None)


async def test_a_server_that_restarts_and_has_forgotten_its_history_is_listed_again(
    runtime: _core.Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, history=10)
    for name in ("a", "b"):
        api.put(pod(name))
    port = api.port
    async with mirrored(api, tmp_path) as store:
        api.server.close()
        api.delete(pod("a"))
        for number in range(30):
            api.put(pod(f"p{number}"))
        api.store.close()
        del api.server
        again = await _served_again(runtime, tmp_path, keys, port)
        await until(lambda: stored(store, "p29"))
        assert stored(store, "a") is None
        again.put(pod("after"))
        await until(lambda: stored(store, "after"))
        again.server.close()
        again.store.close()


async def _served_again(runtime: _core.Runtime, directory: Path, keys: Keys, port: int) -> Api:
    for _ in range(100):
        try:
            return serve(runtime, directory, keys, port=port, history=10)
        except KedgeError:
            await asyncio.sleep(0.05)
    raise AssertionError("the port stays busy")


async def test_objects_of_other_resources_in_the_store_are_left_alone(
    api: Api, tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "replica", mode="replica")
    other = ObjectKey("kedge.io", "serviceaccounttokens", "default", "t")
    store.commit_now([put(other, b'{"metadata":{"name":"t"}}')])
    store.close()
    async with mirrored(api, tmp_path) as store:
        assert store.get(other) is not None
