# SPDX-License-Identifier: Apache-2.0
"""CSI volumes of pods with real containerd and a driver that mounts for real, offline and over a reboot."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.attacher import PATH, Attacher
from tests.fakes.plugin_protos import Control
from tests.rig.api import Failed
from tests.rig.api import is_ready as is_ready_object
from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import container, is_ready, pod
from tests.rig.mounts import unmount_below
from tests.rig.pods import IMAGE
from tests.rig.processes import Process, wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
DRIVER = "csi.example"


class DriverRig:
    """A driver beside a node that keeps its data in ``data``."""

    def __init__(self, directory: Path, data: Path) -> None:
        self._directory, self._data = directory, data
        self.control = Control(directory / "control.json")
        self.volumes = directory / "volumes"
        self.volumes.mkdir()
        self.programs: list[Process] = []

    def start_driver(self) -> Process:
        registry = self._data / "plugins_registry"
        registry.mkdir(exist_ok=True)
        control = str(self._directory / "control.json")
        arguments = [str(registry / "csi.sock"), DRIVER, str(self.volumes), control]
        program = Process(
            ["-m", "tests.fakes.csi_driver", *arguments], log=self._directory / "driver.log"
        )
        self.programs.append(program)
        return program

    def stop(self) -> None:
        for program in self.programs:
            program.kill()

    def calls(self) -> list[str]:
        found = [one["method"] for one in self.control.calls()]
        return [one for one in found if one.startswith("Node") and "Get" not in one]


class Rig(DriverRig):
    def __init__(self, node: EdgeNode) -> None:
        super().__init__(node.directory, node.data)
        self.node = node


@pytest.fixture
def rig() -> Iterator[Rig]:
    with EdgeNode.temporary() as node:
        made = Rig(node)
        yield made
        made.stop()


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


def has_records(node: EdgeNode) -> bool:
    """Whether the agent has a volume; directories may go while this looks."""
    return any("vol_data.json" in files for _, _, files in os.walk(node.data))


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
    node.end()
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
    node.wait(lambda: not has_records(node), "nothing is left")
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
    node.end()
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
    node.wait(lambda: not has_records(node), "nothing is left")


# attached, with a whole control plane

CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
PODS = "/api/v1/namespaces/default/pods"
IN_USE = f"kubernetes.io/csi/{DRIVER}^v1"
WRITE = "echo start >> /data/log; exec sleep 1000000"


class Cluster:
    def __init__(self, system: System) -> None:
        self.system, self.api = system, system.api
        self.rig = DriverRig(system.directory, system.edge_dir)
        self.attacher = Attacher(system.kubeconfig, DRIVER)

    def objects(self, *, class_name: str = "", mode: str = "Filesystem", **about: Any) -> None:
        """A driver, a volume of it, and a claim."""
        size = {"storage": "1Gi"}
        body: dict[str, Any] = {"metadata": {"name": DRIVER}, "spec": about}
        self.api.create("/apis/storage.k8s.io/v1/csidrivers", body)
        source = {"driver": DRIVER, "volumeHandle": "v1"}
        use = {"accessModes": ["ReadWriteOnce"], "storageClassName": class_name, "volumeMode": mode}
        spec = use | {"capacity": size, "csi": source}
        volume = {"metadata": {"name": "pv-1"}, "spec": spec}
        self.api.create("/api/v1/persistentvolumes", volume)
        claim = {"metadata": {"name": "data"}, "spec": use | {"resources": {"requests": size}}}
        self.api.create(CLAIMS, claim)

    def run(self, name: str, script: str = WRITE, devices: Any = None) -> None:
        """A pod that writes into the volume once, and stays."""
        mounts = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        made = {
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
        } | ({"volumeDevices": devices} if devices else mounts)
        claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
        spec = {
            "containers": [made],
            "volumes": [claim],
            "terminationGracePeriodSeconds": 0,
        }
        self.api.create(PODS, {"metadata": {"name": name}, "spec": spec})

    def is_ready(self, name: str) -> bool:
        return is_ready_object(self.api.get(f"{PODS}/{name}"))

    def is_gone(self, name: str) -> bool:
        try:
            self.api.get(f"{PODS}/{name}")
        except Failed as error:
            return error.code == 404
        return False

    def attachments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(PATH)["items"]
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get("/api/v1/nodes/edge-1")["status"]
        return found

    def events(self) -> list[str]:
        items = self.api.get("/api/v1/namespaces/default/events")["items"]
        return [f"{one['reason']}: {one['message']}" for one in items]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with System.temporary("csi") as system:
        made = Cluster(system)
        wait_until(
            lambda: system.api.get("/api/v1/namespaces/default/serviceaccounts")["items"],
            20,
            "the namespace has its ServiceAccount",
        )
        yield made
        made.rig.stop()
        made.attacher.stop()


def test_a_volume_is_attached_before_it_is_mounted_and_detached_after_it_was_let_go(
    cluster: Cluster,
) -> None:
    rig = cluster.rig
    cluster.objects()
    rig.start_driver()
    cluster.run("web")
    wait_until(
        lambda: any(
            one.startswith("FailedAttachVolume: MountVolume.WaitForAttach failed for volume")
            and "not attached yet" in one
            for one in cluster.events()
        ),
        60,
        "the pod says what it waits for",
    )
    assert rig.calls() == []
    assert IN_USE in cluster.status()["volumesInUse"], "before it is attached"
    cluster.attacher.start()
    wait_until(lambda: cluster.is_ready("web"), 60, "the pod is ready")
    assert rig.calls() == ["NodeStageVolume", "NodePublishVolume"]
    for one in rig.calls():
        assert rig.control.calls(one)[0]["publish_context"] == {"device": "edge-1-1"}
    assert [one["name"] for one in cluster.status()["volumesAttached"]] == [IN_USE]
    cluster.api.delete(f"{PODS}/web")
    wait_until(lambda: not cluster.attachments(), 60, "it is detached")
    assert rig.calls()[-2:] == ["NodeUnpublishVolume", "NodeUnstageVolume"]
    assert cluster.is_gone("web")
    wait_until(lambda: "volumesAttached" not in cluster.status(), 20, "nothing is attached")


def test_a_volume_that_a_node_out_of_reach_uses_stays_attached(cluster: Cluster) -> None:
    rig, system = cluster.rig, cluster.system
    cluster.objects()
    rig.start_driver()
    cluster.attacher.start()
    cluster.run("web")
    wait_until(lambda: cluster.is_ready("web"), 60, "the pod is ready")
    system.cut_link()
    cluster.api.delete(f"{PODS}/web", {"gracePeriodSeconds": 0})
    assert cluster.is_gone("web")
    time.sleep(3)
    assert len(cluster.attachments()) == 1, "the node has it mounted"
    assert "NodeUnpublishVolume" not in rig.calls()
    system.restore_link()
    wait_until(lambda: not cluster.attachments(), 60, "it is detached when the node let go")
    assert rig.calls()[-1] == "NodeUnstageVolume"


def test_monitoring_is_told_what_the_driver_says_of_its_volume(cluster: Cluster) -> None:
    cluster.objects(attachRequired=False)
    cluster.rig.start_driver()
    cluster.run("web")
    wait_until(lambda: cluster.is_ready("web"), 60, "the pod is ready")
    base = "/api/v1/nodes/edge-1/proxy"

    def volumes() -> list[dict[str, Any]]:
        (found,) = cluster.api.get(f"{base}/stats/summary")["pods"]
        return [one for one in found.get("volume", []) if one["name"] == "data"]

    (found,) = volumes()
    assert found["pvcRef"] == {"name": "data", "namespace": "default"}
    assert (found["capacityBytes"], found["availableBytes"], found["usedBytes"]) == (100, 60, 40)
    text = cluster.system.kubectl("get", "--raw", f"{base}/metrics")
    labels = 'namespace="default",persistentvolumeclaim="data"'
    assert f"kubelet_volume_stats_used_bytes{{{labels}}} 40" in text
    cluster.rig.control.write(faults={"NodeGetVolumeStats": "hang"})
    assert volumes() == [], "the rest is answered all the same"


# while pods run, with a whole control plane


def test_a_claim_grows_while_its_pod_runs(cluster: Cluster) -> None:
    rig, api = cluster.rig, cluster.api
    made = {"metadata": {"name": "fast"}, "provisioner": DRIVER, "allowVolumeExpansion": True}
    api.create("/apis/storage.k8s.io/v1/storageclasses", made)
    cluster.objects(attachRequired=False, class_name="fast")
    rig.start_driver()
    cluster.run("web")
    wait_until(lambda: cluster.is_ready("web"), 60, "the pod is ready")
    larger = {"storage": "2Gi"}
    api.merge(f"{CLAIMS}/data", {"spec": {"resources": {"requests": larger}}})
    # what the driver's external-resizer does once its storage is larger
    api.merge("/api/v1/persistentvolumes/pv-1", {"spec": {"capacity": larger}})
    waits = {"type": "FileSystemResizePending", "status": "True"}
    api.merge(f"{CLAIMS}/data/status", {"status": {"conditions": [waits]}})

    def status() -> dict[str, Any]:
        found: dict[str, Any] = api.get(f"{CLAIMS}/data")["status"]
        return found

    wait_until(lambda: status()["capacity"] == larger, 60, "the claim has grown")
    assert not status().get("conditions")
    (told,) = rig.control.calls("NodeExpandVolume")
    assert f"required_bytes: {2 << 30}" in told["capacity_range"]
    wait_until(
        lambda: any(one.startswith("FileSystemResizeSuccessful") for one in cluster.events()),
        20,
        "the pod says so",
    )
    assert cluster.is_ready("web")


def test_a_driver_gets_the_tokens_of_the_pods_account(cluster: Cluster) -> None:
    wanted = [{"audience": "vault", "expirationSeconds": 3600}]
    cluster.objects(attachRequired=False, tokenRequests=wanted)
    cluster.rig.start_driver()
    cluster.run("web")
    wait_until(lambda: cluster.is_ready("web"), 60, "the pod is ready")
    (publish,) = cluster.rig.control.calls("NodePublishVolume")
    held = json.loads(publish["volume_context"]["csi.storage.k8s.io/serviceAccount.tokens"])
    part = held["vault"]["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["aud"] == ["vault"]
    assert claims["sub"] == "system:serviceaccount:default:default"
    assert claims["kubernetes.io"]["pod"]["name"] == "web"


def test_a_block_volume_is_a_device_in_the_container(cluster: Cluster) -> None:
    rig = cluster.rig
    cluster.objects(attachRequired=False, mode="Block")
    rig.start_driver()
    script = "echo kept | dd of=/dev/xvda conv=notrunc 2>/dev/null && sync && exec sleep 1000000"
    cluster.run("web", script, devices=[{"name": "data", "devicePath": "/dev/xvda"}])
    wait_until(lambda: cluster.is_ready("web"), 60, "the pod is ready")
    file = rig.volumes / "v1.img"
    wait_until(lambda: file.read_bytes()[:5] == b"kept\n", 20, "it is written through the device")
    cluster.api.delete(f"{PODS}/web")
    wait_until(lambda: "NodeUnstageVolume" in rig.calls(), 60, "it is unstaged")
