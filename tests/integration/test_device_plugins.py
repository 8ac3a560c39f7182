# SPDX-License-Identifier: Apache-2.0
"""Device plugins as programs of their own, with the real client and server, without a container runtime."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from kedge.edge.kubelet.devices.manager import AdmissionRefusedError, DevicesAwayError
from kedge.edge.kubelet.plugins.errors import PluginCallError
from kedge.edge.kubelet.plugins.plugins import Plugins
from tests.fakes.plugin_protos import Control, call, messages
from tests.integration.plugins_rig import Events, plugged
from tests.rig.processes import Process, wait_until

pytestmark = pytest.mark.timeout(60)
THING = "devices.example/thing"


class Node:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.control = Control(directory / "control.json")
        self.events = Events()
        self.programs: list[Process] = []
        self.plugins: Plugins

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Plugins]:
        async with plugged(self.directory, self.events) as self.plugins:
            yield self.plugins

    def start_plugin(self) -> Process:
        self.control.write(devices=self.control.read().get("devices", {"a": "Healthy"}))
        arguments = [
            str(self.directory / "device-plugins"),
            THING,
            str(self.directory / "control.json"),
        ]
        program = Process(
            ["-m", "tests.fakes.device_plugin", *arguments], log=self.directory / "plugin.log"
        )
        self.programs.append(program)
        return program

    async def until(self, capacity: str, allocatable: str) -> None:
        def is_so() -> bool:
            return self.plugins.counts() == ({THING: capacity}, {THING: allocatable})

        await asyncio.to_thread(wait_until, is_so, 15, f"{capacity} and {allocatable}")


@pytest.fixture
def node() -> Iterator[Node]:
    directory = Path(tempfile.mkdtemp(prefix="kedge-dp-"))
    made = Node(directory)
    yield made
    for program in made.programs:
        program.kill()
    shutil.rmtree(directory)


def pod(name: str, count: int = 1, *, init: int = 0) -> dict[str, Any]:
    def container(named: str, number: int) -> dict[str, Any]:
        return {"name": named, "resources": {"limits": {THING: str(number)}}}

    spec: dict[str, Any] = {"containers": [container("main", count)]}
    if init:
        spec["initContainers"] = [container("first", init)]
    return {"metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"}, "spec": spec}


async def test_a_plugins_devices_are_counted_and_follow_its_health_and_its_end(node: Node) -> None:
    node.control.write(devices={"a": "Healthy", "b": "Healthy"})
    async with node.agent():
        program = node.start_plugin()
        await node.until("2", "2")
        node.control.write(devices={"a": "Unhealthy", "b": "Healthy"})
        await node.until("2", "1")
        program.kill()
        await node.until("2", "0")
        node.start_plugin()
        await node.until("2", "1")


async def test_a_pod_keeps_its_devices_when_the_agent_comes_again_and_frees_them_at_its_end(
    node: Node,
) -> None:
    node.control.write(devices={"a": "Healthy", "b": "Healthy"}, prefer=["b", "a"], preStart=True)
    async with node.agent() as plugins:
        node.start_plugin()
        await node.until("2", "2")
        await plugins.admit(pod("one"), is_running=False)
        edits = await plugins.edits(pod("one"), pod("one")["spec"]["containers"][0])
        assert edits is not None
        assert edits["envs"] == {"DEVICE_IDS": "b"}
        assert edits["devices"][0]["host_path"] == "/dev/null"
        with pytest.raises(AdmissionRefusedError, match="Requested: 2, Available: 1"):
            await plugins.admit(pod("two", 2), is_running=False)
    async with node.agent() as plugins:
        with pytest.raises(DevicesAwayError, match="not registered"):
            await plugins.admit(pod("one"), is_running=False)
        await plugins.admit(pod("one"), is_running=True)
        await node.until("2", "2")
        await plugins.admit(pod("one"), is_running=False)
        edits = await plugins.edits(pod("one"), pod("one")["spec"]["containers"][0])
        assert edits is not None
        assert edits["envs"] == {"DEVICE_IDS": "b"}
        plugins.release("uid-one")
        await plugins.admit(pod("two", 2), is_running=False)
    assert [one["ids"] for one in node.control.calls("Allocate")] == [["b"], ["a", "b"]]
    assert [one["ids"] for one in node.control.calls("PreStartContainer")] == [["b"], ["b"]]
    registered = node.control.calls("Register")
    assert [one["error"] for one in registered] == ["", ""], "once for each start of the agent"


async def test_what_an_initial_container_had_is_had_by_the_ones_that_follow(node: Node) -> None:
    node.control.write(devices={"a": "Healthy", "b": "Healthy"})
    async with node.agent() as plugins:
        node.start_plugin()
        await node.until("2", "2")
        await plugins.admit(pod("one", 2, init=2), is_running=False)
        held = node.plugins._devices
        assert held is not None
        assert held.held("uid-one", "first") == held.held("uid-one", "main")


@pytest.mark.parametrize("fault", ["no such luck", "die"])
async def test_a_plugin_that_fails_or_dies_during_a_call_refuses_that_pod_and_keeps_nothing(
    node: Node, fault: str
) -> None:
    node.control.write(devices={"a": "Healthy"}, faults={"Allocate": fault})
    async with node.agent() as plugins:
        node.start_plugin()
        await node.until("1", "1")
        with pytest.raises(
            AdmissionRefusedError, match="no such luck" if fault != "die" else "rpc error"
        ):
            await plugins.admit(pod("one"), is_running=False)
        assert plugins.left_over() == []
        node.control.write(faults={})
        if fault == "die":
            await node.until("1", "0")
            node.start_plugin()
            await node.until("1", "1")
        await plugins.admit(pod("one"), is_running=False)


async def test_a_plugin_that_hangs_delays_nobody_who_wants_nothing_of_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.devices.manager.ALLOCATE_SECONDS", 1.0)
    node.control.write(devices={"a": "Healthy"}, faults={"Allocate": "hang"})
    async with node.agent() as plugins:
        node.start_plugin()
        await node.until("1", "1")
        hanging = asyncio.ensure_future(plugins.admit(pod("one"), is_running=False))
        other = {"metadata": pod("two")["metadata"], "spec": {"containers": [{"name": "main"}]}}
        await asyncio.wait_for(plugins.admit(other, is_running=False), 0.5)
        with pytest.raises(AdmissionRefusedError, match="no answer within 1000 ms"):
            await hanging


async def test_a_version_that_is_not_spoken_is_refused_with_the_one_that_is(node: Node) -> None:
    node.control.write(version="v1alpha")
    async with node.agent():
        node.start_plugin()
        await asyncio.to_thread(wait_until, lambda: node.control.calls("Register"), 15, "a try")
    error = node.control.calls("Register")[0]["error"]
    assert 'requested API version "v1alpha" is not supported' in error
    assert '["v1beta1"]' in error


async def test_monitoring_agents_see_who_has_what(node: Node) -> None:
    api = messages("podresources_v1.proto")
    node.control.write(devices={"a": "Healthy", "b": "Unhealthy"})

    def ask(method: str, request: Any, response: Any, authority: str) -> Any:
        path = f"unix:{node.directory}/pod-resources/kubelet.sock"
        with grpc.insecure_channel(path, [("grpc.default_authority", authority)]) as channel:
            return call(channel, f"/v1.PodResourcesLister/{method}", request, response)

    async with node.agent() as plugins:
        node.start_plugin()
        await node.until("2", "1")
        plugins.pods = lambda: [pod("one")]
        await plugins.admit(pod("one"), is_running=False)
        listed = await asyncio.to_thread(
            ask, "List", api.ListPodResourcesRequest(), api.ListPodResourcesResponse,
            "/var/lib/kubelet/pod-resources/kubelet.sock",
        )  # fmt: skip
        (found,) = listed.pod_resources
        assert (found.name, found.namespace, found.containers[0].name) == ("one", "default", "main")
        devices = found.containers[0].devices[0]
        assert (devices.resource_name, list(devices.device_ids)) == (THING, ["a"])
        assert devices.topology.nodes[0].id == 0
        allocatable = await asyncio.to_thread(
            ask, "GetAllocatableResources", api.AllocatableResourcesRequest(),
            api.AllocatableResourcesResponse, "localhost",
        )  # fmt: skip
        assert list(allocatable.devices[0].device_ids) == ["a"]
        with pytest.raises(grpc.RpcError, match="pod two in namespace default not found"):
            await asyncio.to_thread(
                ask, "Get", api.GetPodResourcesRequest(pod_name="two", pod_namespace="default"),
                api.GetPodResourcesResponse, "localhost",
            )  # fmt: skip


async def test_a_plugin_that_is_away_says_so(node: Node) -> None:
    async with node.agent() as plugins:
        with pytest.raises(PluginCallError, match="No such file"):
            await plugins.client.call(str(node.directory / "none.sock"), "GetInfo", {})
