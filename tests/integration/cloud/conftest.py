# SPDX-License-Identifier: Apache-2.0
"""A real cluster and real clouds as processes, and nodes that are a store and a link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.ctl import join, token_commands
from kedge.errors import KedgeError
from kedge.hub import certificates
from kedge.hub.client import HubClient
from kedge.runtime import Runtime
from kedge.store import Store, put
from tests.rig.api import Api
from tests.rig.processes import Process, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

ENDPOINT = "unix:///run/none.sock"


@dataclass
class ControlPlane:
    """One cluster, and clouds beside it."""

    directory: Path
    processes: list[Process] = field(default_factory=list)

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "cluster" / "kubeconfig"

    @cached_property
    def api(self) -> Api:
        return Api(self.kubeconfig)

    def start_cluster(self) -> None:
        data, self.api_port = self.directory / "cluster", free_port()
        words = ["--data-dir", str(data), "--listen", f"127.0.0.1:{self.api_port}"]
        process = Process(["-m", "kedge.cluster", *words], log=self.directory / "cluster.log")
        self.processes.append(process)
        wait_until(self.kubeconfig.exists, 20, "the cluster is there", alive=process)

    def start_cloud(self, name: str = "cloud", *more: str) -> Cloud:
        port = free_port()
        process = Process(
            [
                *("-m", "kedge.cloud", "--data-dir", str(self.directory / name)),
                *("--kubeconfig", str(self.directory / "cluster" / "cloud.kubeconfig")),
                *("--listen", f"127.0.0.1:{port}", *more),
            ],
            log=self.directory / f"{name}.log",
        )
        self.processes.append(process)
        cloud = Cloud(self, process, port)
        wait_until(
            lambda: "nodes may connect" in process.tail(), 20, "the cloud is open", alive=process
        )
        return cloud

    def token(self, **wanted: Any) -> str:
        options = {"ttl": "1h", "node": "", "rejoin": False} | wanted
        return token_commands.create(self.kubeconfig, **options)

    def stop(self) -> None:
        self.api.close()
        for process in reversed(self.processes):
            process.stop()


@dataclass
class Cloud:
    """One replica of the cloud role."""

    control: ControlPlane
    process: Process
    port: int

    def join(self, directory: Path, node: str, token: str = "", **more: Any) -> Path:
        return join.run(
            cloud=f"127.0.0.1:{self.port}",
            token=token or self.control.token(),
            node_name=node,
            directory=directory,
            runtime_endpoint=ENDPOINT,
            **more,
        )


@dataclass
class Node:
    """What a node is to the cloud: a directory that joined, a store and a link."""

    directory: Path
    name: str
    runtime: Runtime
    store: Store
    client: HubClient | None = None

    def pem(self, name: str) -> str:
        return (self.directory / "pki" / name).read_text()

    @property
    def pair(self) -> certificates.Pair:
        return certificates.Pair(self.pem("node.crt"), self.pem("node.key"))

    @contextlib.asynccontextmanager
    async def linked(self, cloud: Cloud) -> AsyncIterator[HubClient]:
        client = HubClient(
            self.runtime,
            self.store,
            server=f"127.0.0.1:{cloud.port}",
            node=self.name,
            ca=self.pem("ca.crt"),
            certificate=self.pair,
        )
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self.store.run()), loop.create_task(client.run())]
        try:
            yield client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def report(
        self, resource: str, obj: dict[str, Any], *, namespace: str = "", name: str = ""
    ) -> None:
        key = ObjectKey("", resource, namespace, name or self.name)
        self.store.commit_now([put(key, json.dumps(obj).encode())])

    def register(self) -> None:
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "ready",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        metadata = {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}}
        status = {
            "capacity": {"cpu": "2", "memory": "1Gi", "pods": "110"},
            "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "110"},
            "conditions": [condition],
        }
        self.report("nodes/registration", {"metadata": metadata, "status": status})
        self.report("nodes/status", {"metadata": {"name": self.name}, "status": status})


async def until(check: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What ``check`` gives as soon as it is true; errors of the API count as not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := await asyncio.to_thread(check):
                return found
        except Exception as error:
            last: object = error
        else:
            last = "false"
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s, last: {last}")
        await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("control"))
    try:
        plane.start_cluster()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="module")
def cloud(control: ControlPlane) -> Cloud:
    return control.start_cloud()


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    made = Runtime()
    yield made
    made.close()


@pytest.fixture
def make_node(
    tmp_path: Path, cloud: Cloud, runtime: Runtime
) -> Iterator[Callable[[str], Awaitable[Node]]]:
    made: list[Node] = []

    async def make(name: str) -> Node:
        directory = tmp_path / name
        await asyncio.to_thread(cloud.join, directory, name)
        store = Store.open(directory / "store", mode="replica", durable=False)
        made.append(Node(directory, name, runtime, store))
        return made[-1]

    yield make
    for node in made:
        with contextlib.suppress(KedgeError):
            node.store.close()
