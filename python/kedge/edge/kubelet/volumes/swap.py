# SPDX-License-Identifier: Apache-2.0
"""Files that change all at once: ``..data`` points to a directory that never changes.

The layout is the kubelet's, which programs rely on: ``volume/name -> ..data/name``,
``volume/..data -> ..<time>.<random>``. A change writes a new directory and renames one link over the
other; a crash between two steps leaves the old state, and the next write clears what was left.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kedge import faults
from kedge.edge.kubelet.volumes.trees import remove_tree

if TYPE_CHECKING:
    from kedge.edge.kubelet.volumes.payloads import Payload

DATA = "..data"
_NEW_DATA = "..data_tmp"


def write(directory: Path, payload: Payload, group: int | None = None) -> bool:
    """Makes the volume hold exactly the payload; whether anything changed.

    Args:
        directory: the volume's; it must exist.
        payload: what it is to hold.
        group: the files' group, which may then read them.
    """
    payload = {path: file._replace(mode=_mode(file.mode, group)) for path, file in payload.items()}
    before = _current(directory)
    if before is not None and _holds(directory / before, payload):
        _link(directory, payload)
        return False
    fresh = f"..{time.strftime('%Y_%m_%d_%H_%M_%S', time.gmtime())}.{os.urandom(5).hex()}"
    try:
        _fill(directory / fresh, payload, group)
    except OSError:
        remove_tree(directory / fresh)  # a full disk must not get fuller with each attempt
        raise
    if __debug__:
        faults.point("volume.files.written")
    new = directory / _NEW_DATA
    new.unlink(missing_ok=True)
    new.symlink_to(fresh)
    if __debug__:
        faults.point("volume.data.linked")
    new.rename(directory / DATA)
    if __debug__:
        faults.point("volume.data.renamed")
    _link(directory, payload)
    if __debug__:
        faults.point("volume.names.linked")
    _sweep(directory, payload, fresh)
    return True


def _mode(mode: int, group: int | None) -> int:
    """A group that owns the files may read them, and enter what may be executed."""
    return mode if group is None else mode | 0o440


def _current(directory: Path) -> str | None:
    try:
        return str((directory / DATA).readlink())
    except OSError:
        return None


def _holds(directory: Path, payload: Payload) -> bool:
    found = {}
    try:
        for folder, _, names in os.walk(directory):
            for name in names:
                path = Path(folder, name)
                mode = stat.S_IMODE(path.lstat().st_mode)
                found[str(path.relative_to(directory))] = (path.read_bytes(), mode)
    except OSError:
        return False
    return found == {path: (file.content, file.mode) for path, file in payload.items()}


def _fill(directory: Path, payload: Payload, group: int | None) -> None:
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    for path, one in payload.items():
        target = directory / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(one.content)
            file.flush()
            if one.user is not None or group is not None:
                user = -1 if one.user is None else one.user
                os.fchown(descriptor, user, -1 if group is None else group)
            os.fchmod(descriptor, one.mode)


def _tops(payload: Payload) -> set[str]:
    return {path.split("/", 1)[0] for path in payload}


def _link(directory: Path, payload: Payload) -> None:
    for name in _tops(payload):
        target = f"{DATA}/{name}"
        with contextlib.suppress(FileExistsError):
            (directory / name).symlink_to(target)


def _sweep(directory: Path, payload: Payload, current: str) -> None:
    """Removes links that lead nowhere now, and directories of before."""
    keep = _tops(payload) | {DATA, current}
    for path in directory.iterdir():
        if path.name in keep:
            continue
        if path.is_symlink():
            path.unlink(missing_ok=True)
        elif path.name.startswith(".."):
            remove_tree(path)
