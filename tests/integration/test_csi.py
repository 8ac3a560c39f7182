# SPDX-License-Identifier: Apache-2.0
"""CSI: volumes staged, published and given back, over crashes and with drivers that fail, die or hang."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kedge import faults
from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.csi.requests import digest
from kedge.edge.kubelet.volumes import VolumeError
from kedge.edge.kubelet.volumes.sources import Request
from kedge.edge.kubelet.volumes.trees import SystemMounter, remove_all
from tests.integration import csi_rig
from tests.integration.csi_rig import DRIVER, MARKS, Node, persistent, pod, until_removed
from tests.rig import fault_points
from tests.rig.processes import wait_until

pytestmark = MARKS


@pytest.fixture
def node() -> Iterator[Node]:
    with csi_rig.made() as found:
        yield found


async def test_a_volume_is_staged_once_and_published_for_each_pod_and_let_go_in_order(
    node: Node,
) -> None:
    node.about(attachRequired=False, podInfoOnMount=True)
    async with node.with_driver() as csi:
        assert node.reports.drivers == [
            {
                "name": DRIVER,
                "nodeID": "node-of-driver",
                "topologyKeys": ["topology.example/rack"],
                "allocatable": {"count": 7},
            }
        ]
        assert csi.drivers.annotations() == {
            "csi.volume.kubernetes.io/nodeid": '{"csi.example":"node-of-driver"}'
        }
        first = await csi.volumes.prepare(persistent(node, pod("one")))
        Path(first.path, "kept").write_text("x")
        assert (node.data / "v1" / "kept").read_text() == "x"
        again = await csi.volumes.prepare(persistent(node, pod("one")))
        second = await csi.volumes.prepare(persistent(node, pod("two")))
        assert again == first
        assert Path(second.path, "kept").read_text() == "x"
        assert await csi.volumes.usage("uid-one") == {
            "pv-1": {"bytes_available": 60, "bytes_total": 100, "bytes_used": 40}
        }
        await csi.volumes.remove("uid-one")
        assert Path(second.path, "kept").exists()
        await csi.volumes.remove("uid-two")
        await csi.volumes.remove("uid-two")
    assert node.calls() == [
        "NodeStageVolume", "NodePublishVolume", "NodePublishVolume", "NodeGetVolumeStats",
        "NodeUnpublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume",
    ]  # fmt: skip
    publish = node.control.calls("NodePublishVolume")[0]
    assert publish["volume_context"] == {
        "share": "a",
        "csi.storage.k8s.io/pod.name": "one",
        "csi.storage.k8s.io/pod.namespace": "default",
        "csi.storage.k8s.io/pod.uid": "uid-one",
        "csi.storage.k8s.io/serviceAccount.name": "default",
        "csi.storage.k8s.io/ephemeral": "false",
    }
    assert "noatime" in publish["volume_capability"]
    hashed = digest("v1")
    assert publish["staging_target_path"].endswith(
        f"/plugins/kubernetes.io/csi/{DRIVER}/{hashed}/globalmount"
    )
    assert publish["target_path"].endswith("/pods/uid-one/volumes/kubernetes.io~csi/pv-1/mount")
    assert SystemMounter().below(node.directory) == []
    assert not list((node.directory / "plugins").rglob("vol_data.json"))


async def test_an_inline_volume_is_the_pods_alone_and_read_only_where_it_says(node: Node) -> None:
    node.about(podInfoOnMount=True)
    source = {
        "driver": DRIVER,
        "readOnly": True,
        "nodePublishSecretRef": {"name": "key"},
    }
    secret = {"data": {"password": base64.b64encode(b"hidden").decode()}}
    async with node.with_driver() as csi:
        asked: Any = Request(pod("one"), "inline", "csi", source, node.objects)  # type: ignore[arg-type]
        with pytest.raises(VolumeError, match='secret "key" not found in namespace "default"'):
            await csi.volumes.prepare(asked)
        node.objects[ObjectKey("", "secrets", "default", "key")] = secret
        found = await csi.volumes.prepare(asked)
        assert found.read_only
        with pytest.raises(OSError, match="Read-only"):
            Path(found.path, "x").write_text("x")
        await csi.volumes.remove("uid-one")
    publish = node.control.calls("NodePublishVolume")[0]
    assert publish["secrets"] == {"password": "hidden"}
    assert publish["volume_context"]["csi.storage.k8s.io/ephemeral"] == "true"
    assert publish["volume_id"] == f"csi-{digest('uid-oneinline')}"
    assert "NodeStageVolume" not in node.calls()


async def test_after_a_restart_and_without_objects_what_was_mounted_is_used_and_let_go(
    node: Node,
) -> None:
    async with node.with_driver() as csi:
        before = await csi.volumes.prepare(persistent(node, pod("one")))
    node.programs[0].kill()
    async with node.agent() as csi:
        assert await csi.volumes.prepare(persistent(node, pod("one"))) == before
        with pytest.raises(VolumeError, match="not found in the list of registered CSI drivers"):
            await csi.volumes.remove("uid-one")
        node.start_driver()
        await node.registered()
        node.objects.clear()
        await csi.volumes.remove("uid-one")
    assert SystemMounter().below(node.directory) == []
    assert node.calls().count("NodeStageVolume") == 1


async def test_after_a_reboot_a_volume_is_mounted_anew_and_a_gone_pods_is_just_forgotten(
    node: Node,
) -> None:
    async with node.with_driver() as csi:
        await csi.volumes.prepare(persistent(node, pod("one")))
        await csi.volumes.prepare(persistent(node, pod("two"), volumeHandle="v2"))
    for point in SystemMounter().below(node.directory):
        SystemMounter().unmount(point)
    node.programs[0].kill()
    async with node.agent() as csi:
        await csi.volumes.remove("uid-two")
        with pytest.raises(VolumeError, match="not found in the list"):
            await csi.volumes.prepare(persistent(node, pod("one")))
        node.start_driver()
        await node.registered()
        found = await csi.volumes.prepare(persistent(node, pod("one")))
        assert SystemMounter().below(Path(found.path))
        await csi.volumes.remove("uid-one")
    assert not list(node.directory.rglob("vol_data.json"))


async def test_what_a_crash_left_staged_for_nobody_is_unstaged_when_its_driver_comes(
    node: Node,
) -> None:
    async with node.with_driver() as csi:
        await csi.volumes.prepare(persistent(node, pod("one")))
    published = node.directory / "pods" / "uid-one"
    remove_all(SystemMounter(), published)
    async with node.agent():
        await node.registered()
        await asyncio.to_thread(
            wait_until, lambda: "NodeUnstageVolume" in node.calls(), 15, "it is unstaged"
        )
        await asyncio.sleep(0.2)
    assert not list(node.directory.rglob("vol_data.json"))


@pytest.mark.parametrize("method", ["NodeStageVolume", "NodePublishVolume"])
async def test_a_driver_that_fails_or_dies_at_a_step_is_asked_again_and_leaves_nothing(
    node: Node, method: str
) -> None:
    node.control.write(faults={method: "the disk is on fire"})
    async with node.with_driver() as csi:
        with pytest.raises(VolumeError, match=r"rpc error from csi\.example: the disk is on fire"):
            await csi.volumes.prepare(persistent(node, pod("one")))
        node.control.write(faults={method: "die"})
        with pytest.raises(VolumeError, match=r"rpc error from csi\.example"):
            await csi.volumes.prepare(persistent(node, pod("one")))
        node.control.write(faults={})
        node.start_driver()
        await asyncio.wait_for(until_removed(csi, "uid-one"), 15)
    assert SystemMounter().below(node.directory) == []
    assert not list(node.directory.rglob("vol_data.json"))


class Crash(BaseException):
    """The agent ends here."""


@pytest.mark.parametrize("point", [one for one in fault_points.names() if one.startswith("csi.")])
async def test_an_agent_that_dies_at_any_step_leaves_nothing_that_the_next_one_does_not_undo(
    node: Node, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    reached = []

    def crash(name: str) -> None:
        if name == point and not reached:
            reached.append(name)
            raise Crash

    async with node.with_driver() as csi:
        monkeypatch.setattr(faults, "reached", crash)
        try:
            await csi.volumes.prepare(persistent(node, pod("one")))
            await csi.volumes.remove("uid-one")
        except Crash:
            pass
    assert reached == [point]
    async with node.agent() as csi:
        await node.registered()
        found = await csi.volumes.prepare(persistent(node, pod("one")))
        assert SystemMounter().below(Path(found.path))
        await csi.volumes.remove("uid-one")
        await asyncio.sleep(0.2)
    assert SystemMounter().below(node.directory) == []
    assert not list(node.directory.rglob("vol_data.json"))


async def test_a_driver_that_hangs_holds_up_no_other_volume(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kedge.edge.kubelet.csi.shared.CALL_SECONDS", 2.0)
    async with node.with_driver() as csi:
        node.control.write(faults={"NodeStageVolume": "hang"})
        hanging = asyncio.ensure_future(csi.volumes.prepare(persistent(node, pod("one"))))
        await asyncio.to_thread(
            wait_until, lambda: "NodeStageVolume" in node.calls(), 15, "it hangs"
        )
        node.control.write(faults={})
        other = persistent(node, pod("two"), volumeHandle="v2")
        await asyncio.wait_for(csi.volumes.prepare(other), 1.5)
        with pytest.raises(VolumeError, match="no answer within 2000 ms"):
            await hanging
        await csi.volumes.remove("uid-one")
        await csi.volumes.remove("uid-two")


async def test_a_version_that_is_not_spoken_is_refused_and_the_driver_is_told(node: Node) -> None:
    node.control.write(versions=["0.3.0"])
    async with node.agent():
        node.start_driver()
        await asyncio.to_thread(wait_until, lambda: node.control.calls("Notify"), 15, "an answer")
    told = node.control.calls("Notify")[0]
    assert not told["registered"]
    assert "wanted a version 1.x of CSI: 0.3.0" in told["error"]
