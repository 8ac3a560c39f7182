# SPDX-License-Identifier: Apache-2.0
"""A node's side of CSI with a driver that is a program of its own and mounts for real; without a container runtime."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.csi.node import CsiNode
from kedge.edge.kubelet.volumes import VolumeError
from kedge.edge.kubelet.volumes.sources import Request
from kedge.edge.kubelet.volumes.trees import SystemMounter, remove_all
from tests.fakes.plugin_protos import Control
from tests.integration.plugins_rig import Events, plugged
from tests.rig.processes import Process, wait_until

MARKS = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]
DRIVER = "csi.example"
NODE = "edge-1"


class Objects(dict[ObjectKey, dict[str, Any]]):
    def list(self, group: str, resource: str, namespace: str) -> list[dict[str, Any]]:
        wanted = (group, resource, namespace)
        return [value for key, value in self.items() if key[:3] == wanted]


class Reports:
    def __init__(self) -> None:
        self.drivers: list[dict[str, Any]] = []
        self.sizes: list[tuple[str, str]] = []

    def claim_size(self, claim: dict[str, Any], size: str) -> None:
        self.sizes.append((claim["metadata"]["name"], size))

    def csi_node(self, drivers: list[dict[str, Any]]) -> None:
        self.drivers = drivers


class Node:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.control = Control(directory / "control.json")
        self.events, self.reports, self.objects = Events(), Reports(), Objects()
        self.programs: list[Process] = []
        self.data = directory / "data"
        self.data.mkdir()
        self.about(attachRequired=False)

    def about(self, **spec: Any) -> None:
        modes = {"volumeLifecycleModes": ["Persistent", "Ephemeral"]}
        self.objects[ObjectKey("storage.k8s.io", "csidrivers", "", DRIVER)] = {"spec": modes | spec}

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[CsiNode]:
        async with plugged(self.directory, self.events) as plugins:
            fakes: Any = (self.reports, self.events)
            self.csi = CsiNode(plugins, self.directory / "pods", NODE, *fakes, lambda: None)
            plugins.takers["CSIPlugin"] = lambda: self.csi.drivers
            await asyncio.sleep(0)
            yield self.csi

    @asynccontextmanager
    async def with_driver(self) -> AsyncIterator[CsiNode]:
        """An agent, and the driver started and registered with it."""
        async with self.agent() as csi:
            self.start_driver()
            await self.registered()
            yield csi

    def start_driver(self) -> Process:
        (self.directory / "plugins_registry").mkdir(exist_ok=True)
        socket = self.directory / "plugins_registry" / "csi.sock"
        arguments = [str(socket), DRIVER, str(self.data), str(self.directory / "control.json")]
        program = Process(
            ["-m", "tests.fakes.csi_driver", *arguments], log=self.directory / "driver.log"
        )
        self.programs.append(program)
        return program

    async def registered(self) -> None:
        def is_so() -> bool:
            return self.csi.drivers.get(DRIVER) is not None

        await asyncio.to_thread(wait_until, is_so, 15, "the driver is registered")

    def calls(self) -> list[str]:
        return [one["method"] for one in self.control.calls() if one["method"].startswith("Node")]


@contextmanager
def made() -> Iterator[Node]:
    """A node, and at its end no mount of it."""
    directory = Path(tempfile.mkdtemp(prefix="kedge-csi-"))
    node = Node(directory)
    yield node
    for program in node.programs:
        program.kill()
    remove_all(SystemMounter(), directory / "pods")
    remove_all(SystemMounter(), directory / "plugins")
    shutil.rmtree(directory)


def pod(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"metadata": metadata, "spec": {"containers": []} | spec}


def persistent(
    node: Node,
    of: dict[str, Any],
    *,
    size: str = "1Gi",
    about: dict[str, Any] | None = None,
    **csi: Any,
) -> Request:
    source = {
        "driver": DRIVER,
        "volumeHandle": "v1",
        "fsType": "ext4",
        "volumeAttributes": {"share": "a"},
    } | csi
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": size},
        "mountOptions": ["noatime"],
    }
    volume = {"metadata": {"name": "pv-1"}, "spec": spec | {"csi": source} | (about or {})}
    return Request(of, "data", "csi", source, node.objects, volume)  # type: ignore[arg-type]


async def until_removed(csi: CsiNode, uid: str) -> None:
    while True:
        try:
            await csi.volumes.remove(uid)
        except VolumeError:
            await asyncio.sleep(0.1)
        else:
            return
