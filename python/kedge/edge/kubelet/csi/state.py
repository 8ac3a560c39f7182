# SPDX-License-Identifier: Apache-2.0
"""What this node has of CSI volumes, on disk beside them, laid out as the kubelet does.

A pod's volume is ``pods/UID/volumes/kubernetes.io~csi/NAME/mount``, a staged one
``plugins/kubernetes.io/csi/DRIVER/HASH/globalmount``; ``vol_data.json`` beside each says what it is. It is
written before the driver is asked and removed after the driver has let go, so that whatever happens in
between is undone from it, also when no object is left that tells of the volume.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from kedge.edge.kubelet.csi.requests import Volume, digest
from kedge.edge.kubelet.volumes.sources import plain_name
from kedge.edge.kubelet.volumes.trees import remove_tree
from kedge.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIND = "kubernetes.io~csi"
FILE = "vol_data.json"
MAX_BYTES = 64 << 10


class Record(NamedTuple):
    """What is known of one volume of one pod, or of one staged volume.

    Attributes:
        directory: where it is.
        driver: the driver's name.
        handle: the driver's name for it.
        is_staged: whether the driver stages its volumes.
        is_block: it is a device.
        bytes: the size that the driver was last told of.
        is_attached: it had to be attached to this node: the cloud must not detach it.
    """

    directory: Path
    driver: str
    handle: str
    is_staged: bool = False
    is_block: bool = False
    bytes: int = 0
    is_attached: bool = False

    @property
    def target(self) -> Path:
        """Where it is published."""
        return self.directory / ("device" if self.is_block else "mount")


class Layout:
    """Paths and records.

    Args:
        pods: one directory per pod UID.
        root: what is shared with plugins.
    """

    def __init__(self, pods: Path, root: Path) -> None:
        self._pods = pods
        self._staged = root / "plugins" / "kubernetes.io" / "csi"

    def record(self, uid: str, volume: Volume, *, is_staged: bool) -> Record:
        """The record of a pod's volume; not written."""
        directory = self._pods / plain_name(uid) / "volumes" / KIND / plain_name(volume.name)
        return Record(directory, volume.driver, volume.handle, is_staged, volume.is_block)

    def staging(self, driver: str, handle: str) -> Path:
        """Where a volume is staged."""
        return self._staged / plain_name(driver) / digest(handle) / "globalmount"

    def staging_of(self, record: Record) -> str:
        """Where the volume of a record is staged; empty if it is not."""
        return str(self.staging(record.driver, record.handle)) if record.is_staged else ""

    def of_pod(self, uid: str) -> list[Record]:
        """The volumes of a pod."""
        return list(_records(self._pods / plain_name(uid) / "volumes" / KIND))

    def all_attached(self) -> list[Record]:
        """The volumes of pods, and the staged ones, that had to be attached."""
        found = [one for uid in _names(self._pods) for one in self.of_pod(uid)]
        found += [one for name in _names(self._staged) for one in self.all_staged(name)]
        return [one for one in found if one.is_attached]

    def users(self, driver: str, handle: str) -> list[Record]:
        """The volumes of pods that are this one."""
        found = (
            one
            for uid in _names(self._pods)
            for one in _records(self._pods / uid / "volumes" / KIND)
        )
        return [one for one in found if (one.driver, one.handle) == (driver, handle)]

    def all_staged(self, driver: str) -> list[Record]:
        """The staged volumes of a driver."""
        return list(_records(self._staged / plain_name(driver)))


def write(record: Record) -> None:
    """Writes a record, durably."""
    record.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    value = {
        "driverName": record.driver,
        "volumeHandle": record.handle,
        "staged": record.is_staged,
        "block": record.is_block,
        "bytes": record.bytes,
        "attached": record.is_attached,
    }
    write_whole(record.directory / FILE, json.dumps(value), 0o644)


def read(directory: Path) -> Record | None:
    """The record in a directory; None if there is none that can be read."""
    path = directory / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        value = json.loads(path.read_bytes())
        return Record(
            directory,
            str(value["driverName"]),
            str(value["volumeHandle"]),
            bool(value["staged"]),
            bool(value["block"]),
            int(value["bytes"]),
            bool(value.get("attached")),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(directory: Path) -> None:
    """Removes a volume's directory: what it is, last of all; mounts must be gone."""
    for name in ("mount", "device", "globalmount"):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    remove_tree(directory)


def _records(parent: Path) -> Iterator[Record]:
    for name in _names(parent):
        found = read(parent / name)
        if found is not None:
            yield found


def _names(parent: Path) -> list[str]:
    try:
        return sorted(os.listdir(parent))  # noqa: PTH208 - names, not paths
    except (FileNotFoundError, NotADirectoryError):
        return []
