# SPDX-License-Identifier: Apache-2.0
"""hostPath volumes: checked or made as their type says, then used as they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.sources import Prepared, Request

if TYPE_CHECKING:
    from collections.abc import Callable

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class HostPaths:
    """The source of hostPath volumes."""

    async def prepare(self, request: Request) -> Prepared:
        """The path."""
        return Prepared(checked(request.source))

    def refresh(self, request: Request) -> None:
        """Nothing: what is there is the node's."""

    async def remove(self, uid: str) -> None:
        """Nothing: what is there is the node's."""


def checked(source: dict[str, Any]) -> str:
    """The path of a hostPath volume, which is as its type says.

    Raises:
        VolumeError: it is not what the type says, or cannot be made.
    """
    path, kind = Path(source.get("path", "")), source.get("type") or ""
    if not path.is_absolute() or ".." in path.parts:
        raise VolumeError(f"hostPath: wanted an absolute path without '..': {str(path)!r}")
    if not kind:
        return str(path)
    if kind not in _CHECKS:
        raise VolumeError(f"hostPath type: wanted one of {', '.join(_CHECKS)}: {kind}")
    try:
        _make(path, kind)
        mode = path.stat().st_mode
    except OSError as error:
        raise VolumeError(f"hostPath type check failed: {path}: {error.strerror}") from error
    is_right, wanted = _CHECKS[kind]
    if not is_right(mode):
        raise VolumeError(f"hostPath type check failed: {path} is not {wanted}")
    return str(path)


def _make(path: Path, kind: str) -> None:
    if path.exists():
        return
    if kind == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
