# SPDX-License-Identifier: Apache-2.0
"""Parts of volumes: what may be opened, and what is made where nothing is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kedge.edge.kubelet.container import mounts
from kedge.edge.kubelet.container.environment import ContainerConfigError
from kedge.edge.kubelet.volumes import Prepared, VolumeError, sub_paths


def opened(volume: Path, sub_path: str) -> os.stat_result:
    descriptor = sub_paths.open_inside(str(volume), sub_path)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def same(found: os.stat_result, path: Path) -> bool:
    wanted = path.stat()
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def test_a_directory_and_a_file_are_opened(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_text("x")
    assert same(opened(tmp_path, "a/b"), tmp_path / "a" / "b")
    assert same(opened(tmp_path, "a/file"), tmp_path / "a" / "file")


def test_a_link_inside_the_volume_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert same(opened(tmp_path, "link"), tmp_path / "real")


@pytest.mark.parametrize("target", ["/etc", "../outside", "/", "a/../../outside"])
def test_a_link_that_leaves_the_volume_is_refused(tmp_path: Path, target: str) -> None:
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (volume / "link").symlink_to(target)
    for sub in ("link", "link/x", "a/../link"):
        with pytest.raises(VolumeError, match="leaves the volume"):
            sub_paths.open_inside(str(volume), sub)
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("sub", ["../x", "/etc", "a/../../x", ""])
def test_a_path_that_leaves_the_volume_is_refused(tmp_path: Path, sub: str) -> None:
    with pytest.raises(VolumeError, match="leaves the volume"):
        sub_paths.open_inside(str(tmp_path), sub)


def test_a_directory_swapped_for_a_link_while_it_is_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "out").symlink_to("/etc")
    real, calls = os.path.realpath, []

    def swapped(path: Path) -> str:
        """The pod wins the race: right after the path was found to be inside, it is a link."""
        found = real(path)
        calls.append(found)
        if len(calls) == 2:
            (volume / "a").rmdir()
            (volume / "a").symlink_to("/etc")
        return found

    monkeypatch.setattr(sub_paths.os.path, "realpath", swapped)
    with pytest.raises(VolumeError, match="a is a link"):
        sub_paths.open_inside(str(volume), "a")


def test_what_is_missing_is_made_with_the_volumes_own_mode_and_group(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    os.chown(volume, -1, 4321)
    volume.chmod(0o2770)
    opened(volume, "deep/er")
    for path in (volume / "deep", volume / "deep" / "er"):
        assert path.stat().st_gid == 4321
        assert stat.S_IMODE(path.stat().st_mode) == 0o2770


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for sub in ("a/b/c", "out", "a"):
        try:
            os.close(sub_paths.open_inside(str(tmp_path), sub))
        except VolumeError:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def build(
    tmp_path: Path, mount: dict[str, object], *, recursive: bool = False, **container: object
) -> list[dict[str, object]]:
    held = {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v", **mount}], **container}
    return mounts.build(
        held,
        volumes={"v": Prepared(str(tmp_path))},
        variables={"HERE": "x"},
        directory=tmp_path,
        hosts=None,
        attempt=0,
        recursive=recursive,
    )


def test_an_expression_needs_its_variables(tmp_path: Path) -> None:
    with pytest.raises(ContainerConfigError, match="missing value for 'THERE'"):
        build(tmp_path, {"subPathExpr": "$(HERE)/$(THERE)"})


def test_only_a_privileged_container_propagates_its_mounts_to_the_node(tmp_path: Path) -> None:
    with pytest.raises(ContainerConfigError, match="only to privileged containers"):
        build(tmp_path, {"mountPropagation": "Bidirectional"})
    found = build(
        tmp_path, {"mountPropagation": "Bidirectional"}, securityContext={"privileged": True}
    )
    assert found[0]["propagation"] == 2
    assert build(tmp_path, {"mountPropagation": "HostToContainer"})[0]["propagation"] == 1


def test_what_the_runtime_cannot_make_read_only_all_through_is_refused(tmp_path: Path) -> None:
    mount = {"readOnly": True, "recursiveReadOnly": "Enabled"}
    with pytest.raises(ContainerConfigError, match="not supported by this node's runtime"):
        build(tmp_path, mount)
    if_possible = mount | {"recursiveReadOnly": "IfPossible"}
    found = build(tmp_path, if_possible)[0]
    assert found["readonly"]
    assert "recursive_read_only" not in found
    for one in (mount, if_possible):
        assert build(tmp_path, one, recursive=True)[0]["recursive_read_only"]


def test_a_device_is_for_volume_devices_and_nothing_else_is() -> None:
    volumes = {"disk": Prepared("/dev/sdz", is_block=True), "files": Prepared("/srv")}
    held = {"volumeDevices": [{"name": "disk", "devicePath": "/dev/xvda"}]}
    assert mounts.devices(held, volumes) == [
        {"host_path": "/dev/sdz", "container_path": "/dev/xvda", "permissions": "mrw"}
    ]
    held = {"volumeDevices": [{"name": "files", "devicePath": "/dev/xvda"}]}
    with pytest.raises(ContainerConfigError, match="volumeMode Filesystem"):
        mounts.devices(held, volumes)
