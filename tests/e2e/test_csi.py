# SPDX-License-Identifier: Apache-2.0
"""CSI volumes of pods with real containerd and a driver that mounts for real, offline and over a reboot."""

from __future__ import annotations

import base64
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_kubelet import container, is_ready, pod
from tests.fakes.plugin_protos import Control
from tests.rig.edge import EdgeNode
from tests.rig.mounts import unmount_below
from tests.rig.processes import Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
DRIVER = "csi.example"


class Rig:
    def __init__(self, node: EdgeNode) -> None:
        self.node = node
        self.control = Control(node.directory / "control.json")
        self.volumes = node.directory / "volumes"
        self.volumes.mkdir()
        self.programs: list[Process] = []

    def start_driver(self) -> Process:
        registry = self.node.data / "plugins_registry"
        registry.mkdir(exist_ok=True)
        control = str(self.node.directory / "control.json")
        arguments = [str(registry / "csi.sock"), DRIVER, str(self.volumes), control]
        program = Process(
            ["-m", "tests.fakes.csi_driver", *arguments], log=self.node.directory / "driver.log"
        )
        self.programs.append(program)
        return program

    def calls(self) -> list[str]:
        found = [one["method"] for one in self.control.calls()]
        return [one for one in found if one.startswith("Node") and "Get" not in one]


@pytest.fixture
def rig() -> Iterator[Rig]:
    directory = Path(tempfile.mkdtemp(prefix="kedge-e2e-"))
    with EdgeNode(directory) as node:
        made = Rig(node)
        yield made
        for program in made.programs:
            program.kill()
    unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)


def objects() -> list[dict[str, Any]]:
    """A driver, a statically made volume, its Secret, and the claim that is bound to it."""
    about = {"attachRequired": False, "volumeLifecycleModes": ["Persistent", "Ephemeral"]}
    source = {
        "driver": DRIVER,
        "volumeHandle": "v1",
        "nodeStageSecretRef": {"name": "key", "namespace": "default"},
    }
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    return [
        {"kind": "CSIDriver", "metadata": {"name": DRIVER}, "spec": about},
        {
            "kind": "Secret",
            "metadata": {"name": "key", "namespace": "default"},
            "data": {"password": base64.b64encode(b"hidden").decode()},
        },
        {
            "kind": "PersistentVolume",
            "metadata": {"name": "pv-1"},
            "spec": spec | {"csi": source, "claimRef": {"uid": "claim-1"}},
        },
        {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "default", "uid": "claim-1"},
            "spec": {"volumeName": "pv-1"},
            "status": {"phase": "Bound"},
        },
    ]


def counting(name: str) -> dict[str, Any]:
    script = "echo start >> /data/log; exec sleep 1000000"
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    return pod(name, container(script, **mount), volumes=[claim])


def test_a_claims_volume_is_staged_and_published_and_comes_back_after_an_offline_reboot(
    rig: Rig,
) -> None:
    node, web = rig.node, counting("web")
    node.change(*objects(), web)
    node.start()
    time.sleep(5)
    assert not is_ready(node, "web"), "it waits for its driver"
    driver = rig.start_driver()
    node.wait(lambda: is_ready(node, "web"), "the pod is ready", 60)
    assert (rig.volumes / "v1" / "log").read_text() == "start\n"
    assert rig.calls() == ["NodeStageVolume", "NodePublishVolume"]
    assert rig.control.calls("NodeStageVolume")[0]["secrets"] == {"password": "hidden"}
    time.sleep(2)  # reports are written a moment later
    node.kill()
    events = [one["message"] for one in node.reports("events").values()]
    assert any(f"driver name {DRIVER} not found" in one for one in events)
    assert node.reports("csinodes")["edge-1"]["spec"]["drivers"][0]["nodeID"] == "node-of-driver"

    # a reboot: no container, no mount, no driver, and no cloud
    driver.kill()
    node.containerd.reboot()
    unmount_below(node.data)
    node.start()
    node.wait(lambda: not is_ready(node, "web"), "it waits for its driver again", 60)
    rig.start_driver()
    node.wait(lambda: is_ready(node, "web"), "the pod is ready again", 60)
    assert (rig.volumes / "v1" / "log").read_text() == "start\nstart\n"

    # the objects are gone with the pod: the volume is let go of all the same
    node.changed(deleted=(web, *objects()))
    node.wait(lambda: "NodeUnstageVolume" in rig.calls(), "it is unstaged", 60)
    assert rig.calls()[-2:] == ["NodeUnpublishVolume", "NodeUnstageVolume"]
    node.wait(lambda: not list(node.data.rglob("vol_data.json")), "nothing is left")
    assert (rig.volumes / "v1" / "log").exists(), "the data stays"


def test_a_driver_that_fails_is_named_in_events_and_no_other_pod_notices(rig: Rig) -> None:
    node = rig.node
    rig.control.write(faults={"NodePublishVolume": "the disk is on fire"})
    node.change(*objects(), counting("web"), pod("other", container("exec sleep 1000000")))
    rig.start_driver()
    node.start()
    node.wait(lambda: is_ready(node, "other"), "the other pod is ready", 60)
    node.wait(lambda: rig.calls().count("NodePublishVolume") > 3, "it is tried again", 60)
    rig.control.write(faults={})
    node.wait(lambda: is_ready(node, "web"), "the pod is ready", 60)
    time.sleep(2)
    node.kill()
    events = [one["message"] for one in node.reports("events").values()]
    assert any(
        f'volume "data" : rpc error from {DRIVER}: the disk is on fire' in one for one in events
    )


def test_an_inline_volume_comes_and_goes_with_its_pod(rig: Rig) -> None:
    node = rig.node
    mount = {"volumeMounts": [{"name": "scratch", "mountPath": "/data"}]}
    web = pod(
        "web",
        container("echo hi > /data/x; exec sleep 1000000", **mount),
        volumes=[{"name": "scratch", "csi": {"driver": DRIVER}}],
    )
    node.change(*objects(), web)
    rig.start_driver()
    node.start()
    node.wait(lambda: is_ready(node, "web"), "the pod is ready", 60)
    assert [one.read_text() for one in rig.volumes.glob("csi-*/x")] == ["hi\n"]
    node.changed(deleted=(web,))
    node.wait(lambda: "NodeUnpublishVolume" in rig.calls(), "it is unpublished", 60)
    node.wait(lambda: not list(node.data.rglob("vol_data.json")), "nothing is left")
