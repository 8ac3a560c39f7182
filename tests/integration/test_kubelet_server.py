# SPDX-License-Identifier: Apache-2.0
"""The kubelet server's paths over a kubelet with a fake runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kedge.edge.kubelet.serving.face import (
    Answer,
    KubeletServer,
    Log,
    Request,
    RequestError,
    Stats,
    Stream,
)
from kedge.edge.kubelet.serving.routes import Routes
from kedge.edge.runtime.fake import FakeRuntime
from kedge.runtime import Runtime
from kedge.store import Store
from tests.integration.kubelet_rig import Kubelet, until
from tests.unit.edge.kubelet.builders import pod, spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Kubelet, FakeRuntime, Runtime]]:
    store = Store.open(tmp_path / "store", mode="replica", durable=False)
    fake, runtime = FakeRuntime(), Runtime(1)
    yield Kubelet(store, fake, tmp_path), fake, runtime
    store.close()
    runtime.close()


def ask(*parts: str, upgrade: bool = False, **query: list[str]) -> Request:
    return Request("GET", parts, query, upgrade, b"")


async def answer(world: tuple[Kubelet, FakeRuntime, Runtime], request: Request) -> Any:
    return (await answers(world, request))[0]


async def answers(world: tuple[Kubelet, FakeRuntime, Runtime], *requests: Request) -> list[Any]:
    kubelet, _, runtime = world
    async with kubelet:
        await kubelet.apply(pod(spec(tty=True), name="p"))
        await until(lambda: kubelet.is_ready("p"))
        routes = Routes(KubeletServer(runtime), kubelet.pods, kubelet.tools, lambda: "")
        return [await routes.answer(request) for request in requests]


async def test_a_log_is_that_of_the_pods_container(world: Any) -> None:
    found = await answer(world, ask("containerLogs", "default", "p", "main", follow=["true"]))
    assert isinstance(found, Log)
    assert found.request["is_running"]
    assert found.request["path"].endswith("main/0.log")


async def test_a_command_goes_to_the_runtime_with_its_streams(world: Any) -> None:
    query = {"command": ["ls", "-l"], "output": ["1"], "error": ["1"]}
    found = await answer(world, ask("exec", "default", "p", "main", upgrade=True, **query))
    assert isinstance(found, Stream)
    assert found.url.endswith("/ls/-l?tty=False&stdin=False&stdout=True&stderr=True")


async def test_attaching_to_a_terminal_has_one_output(world: Any) -> None:
    query = {"output": ["1"], "error": ["1"], "input": ["1"]}
    found = await answer(world, ask("attach", "default", "p", "main", upgrade=True, **query))
    assert isinstance(found, Stream)
    assert found.url.endswith("?tty=True&stdin=True&stdout=True&stderr=False")


async def test_ports_are_forwarded_into_the_sandbox(world: Any) -> None:
    found = await answer(world, ask("portForward", "default", "p", upgrade=True, port=["80"]))
    assert isinstance(found, Stream)
    assert found.url.endswith("?ports=[80]")


async def test_pods_and_health_are_told(world: Any) -> None:
    found = await answer(world, ask("pods"))
    assert isinstance(found, Answer)
    (only,) = json.loads(found.body)["items"]
    assert (only["metadata"]["name"], only["status"]["phase"]) == ("p", "Running")


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (ask("nothing"), 404, "no such path on this node: /nothing"),
        (ask("metrics", "nothing"), 404, "no such path on this node: /metrics/nothing"),
        (ask("logs", "syslog"), 403, "own log files are not served"),
        (
            Request("POST", ("checkpoint", "default", "p", "main"), {}, False, b""),
            501,
            "checkpoints are not supported",
        ),
        (Request("DELETE", ("metrics",), {}, False, b""), 405, "wanted GET, got: DELETE"),
        (ask("containerLogs", "default", "q", "main"), 404, "pod 'q' in namespace 'default'"),
        (ask("containerLogs", "default", "p", "x"), 404, "container 'x' is not in pod 'p'"),
        (ask("exec", "default", "p", "main"), 400, "command: wanted"),
        (ask("exec", "default", "p", "main", command=["ls"]), 400, "wanted an upgrade"),
        (ask("attach", "default", "p", "main", upgrade=True), 400, "at least 1 of"),
        (ask("portForward", "default", "p", port=["0"]), 400, "port: wanted 1 to 65535"),
        (ask("exec", "default", "p", "other-uid", "main"), 404, "is not on this node"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_its_reason(
    world: Any, request_: Request, status: int, said: str
) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        await answer(world, request_)
    assert refused.value.status == status


async def test_what_monitoring_asks_is_told(world: Any) -> None:
    resource, short, summary, metrics, running = await answers(
        world,
        ask("metrics", "resource"),
        ask("stats", "summary", only_cpu_and_memory=["true"]),
        ask("stats", "summary"),
        ask("metrics"),
        ask("runningpods"),
    )
    assert isinstance(resource, Stats)
    (only,) = resource.world["pods"]
    assert (only["name"], only["containers"][0]["name"]) == ("p", "main")
    assert only["cgroup"] == "", "the fake runtime has none"
    assert short.world["what"] == "summary_of_cpu_and_memory"
    assert summary.world["pods"][0]["containers"][0]["rootfs_bytes"] == 0
    assert "kubelet_running_pods 1" in metrics.world["before"]
    (pod,) = json.loads(running.body)["items"]
    assert pod["spec"]["containers"][0]["name"] == "main"


async def test_what_the_runtime_does_not_tell_is_left_out(world: Any) -> None:
    world[1].fail["container_stats"] = "away"
    found = await answer(world, ask("stats", "summary"))
    assert "images" not in found.world
    assert "rootfs_bytes" not in found.world["pods"][0]["containers"][0]
