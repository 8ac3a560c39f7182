# SPDX-License-Identifier: Apache-2.0
"""The node removes local volumes as its Node object asks, also those that a pod still had at first."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.volumes import local_path
from kedge.edge.kubelet.volumes.local_path import LocalPath, follow_node
from kedge.store import Store, put
from tests.integration.kubelet_rig import until

NODE = ObjectKey("", "nodes", "", "edge")


def ask(store: Store, *names: str) -> None:
    node = {"metadata": {"name": "edge", "annotations": {local_path.TO_REMOVE: ",".join(names)}}}
    store.commit_now([put(NODE, json.dumps(node).encode())])


async def test_a_volume_that_a_pod_still_had_goes_when_it_has_it_no_more(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", mode="primary")
    local = LocalPath(tmp_path / "local")
    used, free = local.directory("used"), local.directory("free")
    in_use, reports = [str(used)], list[list[str]]()

    def report() -> None:
        reports.append(local.held())

    following = asyncio.create_task(follow_node(local, store, "edge", lambda: in_use, report))
    try:
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
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        store.close()
