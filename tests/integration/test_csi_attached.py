# SPDX-License-Identifier: Apache-2.0
"""CSI volumes that must be attached: waited for, and in use for as long as the node has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.csi.requests import digest
from kedge.edge.kubelet.volumes import VolumeError
from kedge.edge.kubelet.volumes.errors import AttachError
from kedge.edge.kubelet.volumes.trees import SystemMounter
from tests.integration import csi_rig
from tests.integration.csi_rig import DRIVER, MARKS, NODE, Node, persistent, pod

pytestmark = MARKS


@pytest.fixture
def node() -> Iterator[Node]:
    with csi_rig.made() as found:
        yield found


IN_USE = f"kubernetes.io/csi/{DRIVER}^v1"
ATTACHMENT = ObjectKey(
    "storage.k8s.io", "volumeattachments", "", f"csi-{digest('v1' + DRIVER + NODE)}"
)
NODE_KEY = ObjectKey("", "nodes", "", NODE)


def attach(node: Node) -> None:
    """Lets the cloud's objects say that the volume is attached and in use here."""
    node.about(attachRequired=True)
    node.objects[ATTACHMENT] = {"metadata": {}, "status": {"attached": True}}
    node.objects[NODE_KEY] = {"status": {"volumesInUse": [IN_USE]}}


async def test_a_driver_that_wants_attaching_is_asked_only_when_the_volume_is_attached(
    node: Node,
) -> None:
    node.about(attachRequired=True)
    attached = {"attached": True, "attachmentMetadata": {"device": "/dev/x"}}
    async with node.with_driver() as csi:
        assert csi.volumes.in_use() == []
        for attachment, known, why in (
            (None, None, f"no VolumeAttachment {ATTACHMENT.name} yet"),
            ({"metadata": {}, "status": {"attached": False}}, None, "not attached yet"),
            (
                {"metadata": {}, "status": {"attachError": {"message": "disk is busy"}}},
                None,
                "disk is busy",
            ),
            (
                {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": attached},
                {"status": {"volumesInUse": [IN_USE]}},
                "is being deleted",
            ),
            ({"metadata": {}, "status": attached}, {}, "the cloud does not know yet"),
        ):
            for key, value in ((ATTACHMENT, attachment), (NODE_KEY, known)):
                if value is not None:
                    node.objects[key] = value
            with pytest.raises(AttachError, match=why):
                await csi.volumes.prepare(persistent(node, pod("one")))
            assert csi.volumes.in_use() == [IN_USE], "so that the cloud keeps it attached"
        assert node.calls() == []
        node.objects[NODE_KEY] = {"status": {"volumesInUse": [IN_USE]}}
        await csi.volumes.prepare(persistent(node, pod("one")))
        assert csi.volumes.in_use() == [IN_USE]
        await csi.volumes.remove("uid-one")
        assert csi.volumes.in_use() == []
    assert node.control.calls("NodeStageVolume")[0]["publish_context"] == {"device": "/dev/x"}


async def test_an_attached_volume_is_in_use_until_it_is_let_go_also_for_the_next_agent(
    node: Node,
) -> None:
    attach(node)
    async with node.with_driver() as csi:
        await csi.volumes.prepare(persistent(node, pod("one")))
        await csi.volumes.prepare(persistent(node, pod("two")))
    async with node.agent() as csi:
        assert csi.volumes.in_use() == [IN_USE]
        await node.registered()
        await csi.volumes.remove("uid-one")
        assert csi.volumes.in_use() == [IN_USE], "the other pod has it"
        node.control.write(faults={"NodeUnstageVolume": "the disk is busy"})
        with pytest.raises(VolumeError, match="the disk is busy"):
            await csi.volumes.remove("uid-two")
        assert csi.volumes.in_use() == [IN_USE], "it is still staged"
        node.control.write(faults={})
        await csi.volumes.remove("uid-two")
        assert csi.volumes.in_use() == []


async def test_an_attached_volume_comes_back_after_a_reboot_without_a_cloud(node: Node) -> None:
    attach(node)
    async with node.with_driver() as csi:
        await csi.volumes.prepare(persistent(node, pod("one")))
    for point in SystemMounter().below(node.directory):
        SystemMounter().unmount(point)
    async with node.agent() as csi:  # what its store had of the cloud's objects is still there
        assert csi.volumes.in_use() == [IN_USE], "before anything is asked"
        await node.registered()
        found = await csi.volumes.prepare(persistent(node, pod("one")))
        assert SystemMounter().below(Path(found.path))
        await csi.volumes.remove("uid-one")
    assert node.calls().count("NodeStageVolume") == 2
