# SPDX-License-Identifier: Apache-2.0
"""Parts of volumes: opened step by step inside the volume, then mounted by what was opened.

A pod may change its volume while its next container is made: it could put a link to the node's files
where a directory was. So the path is resolved once, must be inside, and is then walked from the
volume's own directory without following any link; what was opened so is what is bound, through
``/proc/self/fd``, to a place of the kubelet's below the pod's directory. The runtime is given that place
and never resolves a path of the pod's.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from kedge import faults
from kedge.edge.kubelet.volumes.errors import VolumeError

if TYPE_CHECKING:
    from kedge.edge.kubelet.volumes.trees import Mounter

DIRECTORY = "volume-subpaths"
MAX_PATH_BYTES = 4096
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def bind(mounter: Mounter, volume: str, sub_path: str, place: Path) -> str:
    """Mounts a part of a volume at a place of ours; that place.

    Args:
        mounter: mounts and unmounts.
        volume: the volume's path.
        sub_path: relative to it; made as a directory if nothing is there.
        place: below the pod's directory; made if it is not there.

    Raises:
        VolumeError: the part leaves the volume, changes while it is looked at, or cannot be mounted.
    """
    descriptor = open_inside(volume, sub_path)
    try:
        found = os.fstat(descriptor)
        if _is_there(mounter, place, found):
            return str(place)
        _make_place(mounter, place, is_directory=stat.S_ISDIR(found.st_mode))
        if __debug__:
            faults.point("volume.sub_path.opened")
        mounter.bind(f"/proc/{os.getpid()}/fd/{descriptor}", place)
        if __debug__:
            faults.point("volume.sub_path.bound")
        there = place.stat()
        if (there.st_dev, there.st_ino) != (found.st_dev, found.st_ino):
            mounter.unmount(str(place))
            raise VolumeError(f"subPath changed while it was mounted: {sub_path}")
    except OSError as error:
        raise VolumeError(f"subPath {sub_path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return str(place)


def open_inside(volume: str, sub_path: str) -> int:
    """A descriptor of a part of a volume, made as a directory if nothing is there.

    Raises:
        VolumeError: the part leaves the volume, or changes while it is looked at.
    """
    parts = Path(sub_path).parts
    if not parts or sub_path.startswith("/") or ".." in parts:
        raise VolumeError(f"subPath leaves the volume: {sub_path}")
    if len(os.fsencode(sub_path)) > MAX_PATH_BYTES:
        raise VolumeError(f"subPath: wanted at most {MAX_PATH_BYTES} bytes")
    root = os.path.realpath(volume)
    resolved = os.path.realpath(Path(root, sub_path))
    if resolved != root and not resolved.startswith(f"{root}/"):
        raise VolumeError(f"subPath leaves the volume: {sub_path}")
    try:
        descriptor = os.open(root, _OPEN)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        for name in Path(resolved).relative_to(root).parts:
            descriptor = _step(descriptor, name, mode)
    except OSError as error:
        raise VolumeError(f"subPath {sub_path}: {error.strerror}") from error
    return descriptor


def _step(parent: int, name: str, mode: int) -> int:
    """The next part of a path; the descriptor of the one before is closed."""
    try:
        try:
            found = os.open(name, _OPEN, dir_fd=parent)
        except FileNotFoundError:
            found = _make(parent, name, mode)
        if stat.S_ISLNK(os.fstat(found).st_mode):
            os.close(found)
            raise VolumeError(f"subPath changed while it was looked at: {name} is a link")
    finally:
        os.close(parent)
    return found


def _make(parent: int, name: str, mode: int) -> int:
    """A directory as open to others as its volume is; its group is the parent's where that is set so."""
    os.mkdir(name, 0o750, dir_fd=parent)
    found = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        kept = os.fstat(found).st_mode & stat.S_ISGID
        os.fchmod(found, mode & 0o777 | kept)
    finally:
        os.close(found)
    return os.open(name, _OPEN, dir_fd=parent)


def _is_there(mounter: Mounter, place: Path, found: os.stat_result) -> bool:
    """Whether just this is mounted there already, for a container before this one."""
    try:
        there = place.stat()
    except OSError:
        return False
    same = (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
    return same and os.path.realpath(place) in mounter.below(place)


def _make_place(mounter: Mounter, place: Path, *, is_directory: bool) -> None:
    for point in mounter.below(place):
        mounter.unmount(point)
    place.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if place.is_dir() and not is_directory:
        place.rmdir()
    elif place.exists() and is_directory and not place.is_dir():
        place.unlink()
    if is_directory:
        place.mkdir(mode=0o750, exist_ok=True)
    else:
        place.touch(mode=0o640)
