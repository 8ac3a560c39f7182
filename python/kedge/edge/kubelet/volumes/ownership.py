# SPDX-License-Identifier: Apache-2.0
"""Giving a volume to a pod's ``fsGroup``, as ``fsGroupChangePolicy`` says."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from kedge.edge.kubelet.volumes.errors import VolumeError

if TYPE_CHECKING:
    from kedge.edge.kubelet.pod.state import Pod

ALWAYS, ON_ROOT_MISMATCH = "Always", "OnRootMismatch"
_READ_WRITE = 0o660
_EXECUTE = 0o110
_SETGID = 0o2000


def policy(pod: Pod) -> str:
    """The pod's ``fsGroupChangePolicy``."""
    context = pod["spec"].get("securityContext") or {}
    return str(context.get("fsGroupChangePolicy") or ALWAYS)


def give(path: str, group: int, policy: str) -> bool:
    """Gives a directory and all in it to a group that may use it; whether anything was to be done.

    Links are not followed, and are given themselves.

    Raises:
        VolumeError: it cannot be.
    """
    try:
        if policy == ON_ROOT_MISMATCH and _is_right(path, group):
            return False
        for _, folders, files, descriptor in os.fwalk(path, topdown=False, follow_symlinks=False):
            for name in files:
                _change(name, group, descriptor)
            for name in folders:
                if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    _change(name, group, descriptor)
            os.fchown(descriptor, -1, group)
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.fchmod(descriptor, mode | _READ_WRITE | _EXECUTE | _SETGID)
    except OSError as error:
        raise VolumeError(f"fsGroup {group}: {error.filename or path}: {error.strerror}") from error
    return True


def _is_right(path: str, group: int) -> bool:
    """Whether the directory itself is the group's already, with the bits that it needs."""
    found = Path(path).stat()
    wanted = _READ_WRITE | _EXECUTE | _SETGID
    return found.st_gid == group and stat.S_IMODE(found.st_mode) & wanted == wanted


def _change(name: str, group: int, descriptor: int) -> None:
    found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    os.chown(name, -1, group, dir_fd=descriptor, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        return
    mode = stat.S_IMODE(found.st_mode) | _READ_WRITE
    if stat.S_IMODE(found.st_mode) != mode:
        os.chmod(name, mode, dir_fd=descriptor)
