# SPDX-License-Identifier: Apache-2.0
"""CSI block volumes, and the files of a volume given to a pod's group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kedge.edge.kubelet.volumes import VolumeError
from kedge.edge.kubelet.volumes.trees import SystemMounter
from tests.integration import csi_rig
from tests.integration.csi_rig import MARKS, Node, persistent, pod

pytestmark = MARKS


@pytest.fixture
def node() -> Iterator[Node]:
    with csi_rig.made() as found:
        yield found


async def test_a_block_volume_is_a_device_and_comes_back_after_a_reboot(node: Node) -> None:
    about = {"volumeMode": "Block"}
    grouped = {"securityContext": {"fsGroup": 4321}}
    async with node.with_driver() as csi:
        asked = persistent(node, pod("one", **grouped), about=about)
        found = await csi.volumes.prepare(asked)
        assert found.is_block
        assert Path(found.path).is_block_device()
        assert Path(found.path).stat().st_gid != 4321
        Path(found.path).write_bytes(b"kept")
        assert await csi.volumes.prepare(asked) == found
        for point in SystemMounter().below(node.directory):
            SystemMounter().unmount(point)
        assert await csi.volumes.prepare(asked) == found
        assert Path(found.path).read_bytes()[:4] == b"kept"
        await csi.volumes.remove("uid-one")
    for method in ("NodeStageVolume", "NodePublishVolume"):
        told = node.control.calls(method)[0]["volume_capability"]
        assert "block" in told
        assert "mount" not in told
    assert SystemMounter().below(node.directory) == []
    assert not list(node.directory.rglob("vol_data.json"))


async def test_a_driver_that_leaves_no_device_is_named(node: Node) -> None:
    node.control.write(block=False)
    async with node.with_driver() as csi:
        asked = persistent(node, pod("one"), about={"volumeMode": "Block"})
        with pytest.raises(VolumeError, match="NodePublishVolume: wanted a block device: /"):
            await csi.volumes.prepare(asked)
        await csi.volumes.remove("uid-one")
    assert not list(node.directory.rglob("vol_data.json"))


GIVEN, NOT_GIVEN = True, False


@pytest.mark.parametrize(
    ("policy", "modes", "fs_type", "wanted"),
    [
        ("File", ["ReadWriteMany"], "", GIVEN),
        ("None", ["ReadWriteOnce"], "ext4", NOT_GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadWriteOnce"], "ext4", GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadOnlyMany", "ReadWriteOnce"], "ext4", GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadWriteOncePod"], "ext4", GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadWriteOnce"], "", NOT_GIVEN),
        ("ReadWriteOnceWithFSType", ["ReadWriteMany"], "ext4", NOT_GIVEN),
        ("", ["ReadWriteOnce"], "ext4", GIVEN),
    ],
)
async def test_files_are_given_to_the_pods_group_as_the_driver_says(
    node: Node, policy: str, modes: list[str], fs_type: str, wanted: bool
) -> None:
    node.about(attachRequired=False, **({"fsGroupPolicy": policy} if policy else {}))
    (node.data / "v1").mkdir()
    (node.data / "v1" / "file").write_text("x")
    async with node.with_driver() as csi:
        owner = pod("one", securityContext={"fsGroup": 4321})
        asked = persistent(node, owner, about={"accessModes": modes}, fsType=fs_type)
        found = await csi.volumes.prepare(asked)
        groups = {one.stat().st_gid for one in (Path(found.path), Path(found.path, "file"))}
        assert groups == ({4321} if wanted else {os.getgid()})
        await csi.volumes.remove("uid-one")
    told = node.control.calls("NodePublishVolume")[0]["volume_capability"]
    assert "volume_mount_group" not in told


async def test_a_driver_that_mounts_for_a_group_is_told_it_and_nothing_is_changed(
    node: Node,
) -> None:
    node.about(attachRequired=False, fsGroupPolicy="File")
    node.control.write(capabilities=[1, 6])
    async with node.with_driver() as csi:
        owner = pod("one", securityContext={"fsGroup": 4321})
        found = await csi.volumes.prepare(persistent(node, owner))
        assert Path(found.path).stat().st_gid == os.getgid()
        await csi.volumes.remove("uid-one")
    for method in ("NodeStageVolume", "NodePublishVolume"):
        told = node.control.calls(method)[0]["volume_capability"]
        assert 'volume_mount_group: "4321"' in told


async def test_a_volume_that_is_only_read_is_not_given_away(node: Node) -> None:
    node.about(attachRequired=False, fsGroupPolicy="File")
    async with node.with_driver() as csi:
        owner = pod("one", securityContext={"fsGroup": 4321})
        found = await csi.volumes.prepare(persistent(node, owner, readOnly=True))
        assert Path(found.path).stat().st_gid == os.getgid()
        await csi.volumes.remove("uid-one")
