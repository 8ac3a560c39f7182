# SPDX-License-Identifier: Apache-2.0
"""Device plugins with real containerd: counted, given to containers, kept over crashes, refused in time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.plugin_protos import Control
from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import container, is_ready, pod
from tests.rig.processes import Process, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
THING = "devices.example/thing"
SCRIPT = (
    "echo ids=$DEVICE_IDS cdi=$CDI; [ -c /dev/thing ] && echo has-device; cat /driver/version; "
    "exec sleep 1000000"
)


class Rig:
    def __init__(self, node: EdgeNode) -> None:
        self.node = node
        self.control = Control(node.directory / "control.json")
        self.driver = node.directory / "driver"
        self.driver.mkdir()
        (self.driver / "version").write_text("driver-1\n")
        self.control.write(devices={"a": "Healthy", "b": "Healthy"}, mount=str(self.driver))
        self.programs: list[Process] = []

    def start_plugin(self) -> Process:
        arguments = [
            str(self.node.data / "device-plugins"),
            THING,
            str(self.node.directory / "control.json"),
        ]
        program = Process(
            ["-m", "tests.fakes.device_plugin", *arguments], log=self.node.directory / "plugin.log"
        )
        self.programs.append(program)
        return program

    def registered(self, times: int = 1) -> None:
        wait_until(lambda: len(self.control.calls("Register")) >= times, 20, "the plugin registers")
        assert self.control.calls("Register")[-1]["error"] == ""


@pytest.fixture
def rig() -> Iterator[Rig]:
    with EdgeNode.temporary() as node:
        made = Rig(node)
        yield made
        for program in made.programs:
            program.kill()


def wanting(name: str, count: int = 1) -> dict[str, Any]:
    limits = {"resources": {"limits": {THING: str(count)}, "requests": {THING: str(count)}}}
    return pod(name, container(SCRIPT, **limits))


def counts(node: EdgeNode) -> tuple[str, str]:
    status = node.reports("nodes/status")["edge-1"]["status"]
    return status["capacity"].get(THING, ""), status["allocatable"].get(THING, "")


def test_a_container_has_its_devices_and_keeps_them_over_a_crash_of_agent_and_plugin(
    rig: Rig,
) -> None:
    node, web = rig.node, wanting("web")
    node.start()
    plugin = rig.start_plugin()
    rig.registered()
    node.changed(web)
    rig.registered(2)
    node.wait(lambda: is_ready(node, "web"), "the pod is ready", 60)
    node.wait(lambda: "driver-1" in node.log(web), "it has written")
    log = node.log(web)
    assert "has-device" in log
    (given,) = rig.control.calls("Allocate")
    assert f"ids={given['ids'][0]} " in log
    node.kill()
    assert counts(node) == ("2", "2")
    plugin.kill()
    node.containerd.reboot()
    node.start()
    node.wait(lambda: not is_ready(node, "web"), "the pod waits for its plugin", 60)
    time.sleep(4)  # its report is written a moment later
    node.kill()
    assert counts(node) == ("0", "0"), "a plugin that is not back has no devices"
    node.start()
    rig.start_plugin()
    node.wait(lambda: is_ready(node, "web"), "the pod has its device again", 60)
    node.wait(lambda: node.log(web, attempt=1).count("ids=") == 1, "it has started once more")
    assert f"ids={given['ids'][0]} " in node.log(web, attempt=1)
    assert len(rig.control.calls("Allocate")) == 1


def test_a_pod_that_wants_too_many_fails_with_the_kubelets_reason_and_the_rest_is_free(
    rig: Rig,
) -> None:
    node = rig.node
    node.start()
    rig.start_plugin()
    rig.registered()
    node.changed(wanting("greedy", 3), wanting("modest", 2))
    rig.registered(2)
    node.wait(lambda: is_ready(node, "modest"), "the modest pod is ready", 60)
    node.wait(lambda: node.pods()["greedy"]["phase"] == "Failed", "the greedy pod has failed", 60)
    node.kill()
    status = node.reports("pods/status")["greedy"]["status"]
    assert status["reason"] == "UnexpectedAdmissionError"
    assert "Requested: 3, Available: " in status["message"]
    node.changed(deleted=(wanting("modest"),))
    node.wait(lambda: not node.containerd.all_containers(), "the modest pod has gone", 60)
    node.changed(wanting("next", 2))
    node.wait(lambda: is_ready(node, "next"), "what the modest pod had is free", 60)


def test_cdi_devices_are_resolved_for_a_runtime_that_does_not_know_them(rig: Rig) -> None:
    node = rig.node
    directory = Path("/var/run/cdi")
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "kedge-test.json"
    edits = {"env": ["CDI=yes"], "hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}
    spec = {
        "cdiVersion": "0.5.0",
        "kind": "devices.example/cdi",
        "devices": [{"name": "one", "containerEdits": edits}],
    }
    file.write_text(json.dumps(spec))
    try:
        rig.control.write(cdi=["devices.example/cdi=one"])
        node.start()
        rig.start_plugin()
        rig.registered()
        web = wanting("web")
        node.changed(web)
        node.wait(lambda: "cdi=yes" in node.log(web), "the container has the device's variable", 60)
        node.end()
        events = node.reports("events").values()
        told = [one["message"] for one in events if one["reason"] == "NotHonoured"]
        assert any(
            "CDI device devices.example/cdi=one: hooks is not honoured" in one for one in told
        )
    finally:
        file.unlink()
