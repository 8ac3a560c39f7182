# SPDX-License-Identifier: Apache-2.0
"""Mounts and directory trees of volumes: made, found and removed.

Removing never leaves a file system behind or enters one: mounts below a directory go first, links
are not followed, and a directory that still holds a mount is not touched. (``shutil`` would do half
of this and cost the agent a megabyte.)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from kedge import faults
from kedge.edge.kubelet.volumes.errors import VolumeError

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_SECONDS = 10
_ESCAPES = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


class Mounter(Protocol):
    """Mounts and unmounts."""

    def tmpfs(self, path: Path, size_bytes: int, mode: int) -> None:
        """Mounts memory at a directory."""

    def hugetlbfs(self, path: Path, page_size: str, size_bytes: int) -> None:
        """Mounts huge pages at a directory; an empty page size takes the system's default."""

    def bind(self, source: str, path: Path) -> None:
        """Mounts what is at ``source``, which is not resolved further, at ``path`` as well."""

    def unmount(self, path: str) -> None:
        """Unmounts at once what is mounted there."""

    def below(self, directory: Path) -> list[str]:
        """Mount points at and below a directory, the deepest first."""


class SystemMounter:
    """Mounts with the system's own programs."""

    def tmpfs(self, path: Path, size_bytes: int, mode: int) -> None:
        """Mounts memory at a directory.

        Raises:
            VolumeError: the system refused.
        """
        size = [f"size={size_bytes}"] if size_bytes else []
        options = ",".join([*size, f"mode={mode:o}", "nosuid", "nodev"])
        _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path))

    def hugetlbfs(self, path: Path, page_size: str, size_bytes: int) -> None:
        """Mounts huge pages at a directory; an empty page size takes the system's default.

        Raises:
            VolumeError: the system refused.
        """
        size = [f"size={size_bytes}"] if size_bytes else []
        pages = [f"pagesize={page_size}"] if page_size else []
        _run(
            "mount",
            "-t",
            "hugetlbfs",
            "-o",
            ",".join([*pages, *size, "mode=0777"]),
            "nodev",
            str(path),
        )

    def bind(self, source: str, path: Path) -> None:
        """Mounts what is at ``source``, which is not resolved further, at ``path`` as well.

        Raises:
            VolumeError: the system refused.
        """
        _run("mount", "--no-canonicalize", "--bind", source, str(path))

    def unmount(self, path: str) -> None:
        """Unmounts at once what is mounted there.

        Raises:
            VolumeError: the system refused.
        """
        _run("umount", "-l", path)

    def below(self, directory: Path) -> list[str]:
        """Mount points at and below a directory, the deepest first."""
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:  # noqa: PTH123
            points = [_plain(line.split(" ", 2)[1]) for line in table]
        top = os.path.realpath(directory)
        found = [one for one in points if one == top or one.startswith(f"{top}/")]
        return sorted(found, key=len, reverse=True)


def _plain(point: str) -> str:
    if "\\" in point:
        for escape, character in _ESCAPES.items():
            point = point.replace(escape, character)
    return point


def _run(*command: str) -> None:
    import subprocess  # noqa: PLC0415 - half a megabyte that most nodes never need

    try:
        done = subprocess.run(  # noqa: S603 - our own words and paths
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VolumeError(f"{command[0]} cannot run: {error}") from error
    if done.returncode != 0:
        raise VolumeError(f"{command[0]} {command[-1]}: {done.stderr.strip()[:500]}")


def unmount_below(mounter: Mounter, directory: Path) -> None:
    """Unmounts all at and below a directory.

    Raises:
        VolumeError: something is still mounted.
    """
    for point in mounter.below(directory):
        mounter.unmount(point)
    left = mounter.below(directory)
    if left:
        raise VolumeError(f"still mounted: {left[0]}")


def remove_all(mounter: Mounter, directory: Path) -> None:
    """Unmounts all at and below a directory, then removes it; nothing happens if it is not there.

    Raises:
        VolumeError: something cannot be unmounted or removed.
    """
    if not directory.exists():
        return
    unmount_below(mounter, directory)
    if __debug__:
        faults.point("volume.unmounted")
    try:
        remove_tree(directory)
    except OSError as error:
        raise VolumeError(f"cannot remove {directory}: {error.strerror}") from error


def remove_tree(directory: Path) -> None:
    """Removes a directory and what is in it; nothing happens if it is not there."""
    try:
        walk = os.fwalk(directory, topdown=False, follow_symlinks=False)
        for _, folders, files, descriptor in walk:
            for name in files:
                os.unlink(name, dir_fd=descriptor)
            for name in folders:
                _remove_folder(name, descriptor)
        directory.rmdir()
    except FileNotFoundError:
        return


def _remove_folder(name: str, descriptor: int) -> None:
    try:
        os.rmdir(name, dir_fd=descriptor)
    except NotADirectoryError:
        os.unlink(name, dir_fd=descriptor)  # a link to a directory


def own(directory: Path, group: int) -> None:
    """Gives a directory to a group that may use it; what is made in it belongs to the group too."""
    os.chown(directory, -1, group)
    directory.chmod(directory.stat().st_mode & 0o7777 | 0o2770)
