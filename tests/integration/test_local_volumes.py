# SPDX-License-Identifier: Apache-2.0
"""The node removes local volumes as its Node object asks, also those that a pod still had at first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.volumes import local_path
from kedge.edge.kubelet.volumes.local_path import LocalPath, follow_node
from kedge.store import Store, put
from tests.integration.kubelet_rig import until

NODE = ObjectKey("", "nodes", "", "edge")


def ask(store: Store, *names: str) -> None:
    node = {"metadata": {"name": "edge", "annotations": {local_path.TO_REMOVE: ",".join(names)}}}
    store.commit_now([put(NODE, json.dumps(node).encode())])


@asynccontextmanager
async def following(
    local: LocalPath, store: Store, in_use: list[str], report: Callable[[], None]
) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(
        follow_node(local, store, "edge", lambda: in_use, report)
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        store.close()


async def test_a_volume_that_a_pod_still_had_goes_when_it_has_it_no_more(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", mode="primary")
    local = LocalPath(tmp_path / "local")
    used, free = local.directory("used"), local.directory("free")
    in_use, reports = [str(used)], list[list[str]]()

    def report() -> None:
        reports.append(local.held())

    async with following(local, store, in_use, report):
        ask(store, "used", "free")
        await until(lambda: not free.exists())
        assert used.exists()
        assert reports == []
        in_use.clear()
        await until(lambda: reports == [[]])
        ask(store)
        await until(lambda: len(reports) == 2)
        local.directory("next")
        ask(store, "next")
        await until(lambda: len(reports) == 3)
        assert local.held() == []


async def test_what_cannot_be_removed_is_said_and_tried_again_after_a_longer_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local_path, "AGAIN_SECONDS", 60.0)
    monkeypatch.setattr(local_path, "FAILED_SECONDS", 0.05)
    store = Store.open(tmp_path / "store", mode="primary")
    local = LocalPath(tmp_path / "local")
    free = local.directory("free")
    async with following(local, store, [], lambda: None):
        ask(store, "..")
        await until(lambda: caplog.text.count("volumes cannot be removed: ") > 1)
        ask(store, "free")
        await until(lambda: not free.exists())
