# SPDX-License-Identifier: Apache-2.0
"""A kubelet on a fake runtime and a store, driven by tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.events import Recorder
from kedge.edge.kubelet.images.images import Images
from kedge.edge.kubelet.objects import StoreObjects
from kedge.edge.kubelet.pods import Pods
from kedge.edge.kubelet.reports import Reporter
from kedge.edge.kubelet.tools import Facts, Paths, Tools
from kedge.edge.kubelet.volumes import Prepared
from kedge.errors import KedgeError
from kedge.store import Store, delete, put

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.edge.runtime.fake import FakeRuntime


class PlainVolumes:
    """Volumes that are only paths; a ConfigMap volume needs its object."""

    def __init__(self) -> None:
        self.refreshed: list[str] = []
        self.removed: list[str] = []

    async def prepare(self, pod: dict[str, Any], objects: StoreObjects) -> dict[str, Prepared]:
        found = {}
        for volume in pod["spec"].get("volumes") or []:
            if "configMap" in volume:
                key = ObjectKey(
                    "", "configmaps", pod["metadata"]["namespace"], volume["configMap"]["name"]
                )
                if objects.get(key) is None:
                    raise KedgeError(f'configmap "{key.name}" not found')
            path = f"/volumes/{pod['metadata']['uid']}/{volume['name']}"
            found[volume["name"]] = Prepared(path)
        return found

    def refresh(self, pod: dict[str, Any], objects: StoreObjects) -> None:
        self.refreshed.append(pod["metadata"]["uid"])

    async def remove(self, uid: str) -> None:
        self.removed.append(uid)

    def left_over(self) -> list[str]:
        return []

    async def usage(self, _uid: str) -> dict[str, dict[str, int]]:
        return {}


class NoNetwork:
    """Fails every network probe."""

    async def probe(self, what: dict[str, Any], timeout_seconds: float) -> tuple[bool, str]:
        return False, f"no network for {what} within {timeout_seconds}"


class Kubelet:
    """All of a kubelet but the node's own reports; may be stopped and started again."""

    def __init__(
        self, store: Store, runtime: FakeRuntime, directory: Path, *, complete: bool = True
    ) -> None:
        self.store, self.runtime, self.directory, self.complete = (
            store,
            runtime,
            directory,
            complete,
        )
        self.volumes = PlainVolumes()
        self.static = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Kubelet:
        self.reporter = Reporter(self.store, "edge-1")
        self.recorder = Recorder(self.store, "edge-1")
        tools = self.tools = Tools(
            runtime=self.runtime,
            objects=StoreObjects(self.store),
            volumes=self.volumes,
            images=Images(self.runtime),
            prober=NoNetwork(),
            recorder=self.recorder,
            reporter=self.reporter,
            facts=Facts("edge-1", ("192.168.0.5",), "fake", 1 << 30),
            paths=Paths(self.directory / "pods", self.directory / "logs"),
            sandbox_limit=asyncio.Semaphore(8),
            start_limit=asyncio.Semaphore(8),
        )
        self.pods = Pods(self.store, tools)
        if self.static:
            self.pods.await_static()
        if self.complete:
            self.pods.store_is_complete()
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.store.run())
            group.create_task(self.reporter.run())
            group.create_task(self.recorder.run())
            group.create_task(self.pods.run())

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def apply(self, *objects: dict[str, Any]) -> None:
        self.store.commit_now([put(key_of(one), json.dumps(one).encode()) for one in objects])

    async def delete(self, one: dict[str, Any]) -> None:
        self.store.commit_now([delete(key_of(one))])

    def status(self, name: str) -> dict[str, Any]:
        stored = self.store.get(ObjectKey("", "pods/status", "default", name))
        return json.loads(stored.value)["status"] if stored else {}

    def is_ready(self, name: str) -> bool:
        return any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in self.status(name).get("conditions", [])
        )

    def is_reported_deleted(self, name: str) -> bool:
        return self.store.get(ObjectKey("", "pods/deleted", "default", name)) is not None

    async def events(self) -> list[tuple[str, str]]:
        await self.recorder.flush()
        found = [json.loads(item.value) for item in self.store.list("", "events").items]
        return [(one["reason"], one["message"]) for one in found]


def key_of(one: dict[str, Any]) -> ObjectKey:
    if one["kind"] == "RuntimeClass":
        return ObjectKey("node.k8s.io", "runtimeclasses", "", one["metadata"]["name"])
    resource = {"Pod": "pods", "ConfigMap": "configmaps", "Secret": "secrets"}[one["kind"]]
    return ObjectKey("", resource, one["metadata"]["namespace"], one["metadata"]["name"])


async def until(condition: Any, what: str = "the condition") -> None:
    """Waits for something to hold; the test's timeout is the deadline."""
    try:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None
