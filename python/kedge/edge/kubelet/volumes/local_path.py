# SPDX-License-Identifier: Apache-2.0
"""Directories of volumes that the built-in provisioner ``kedge.io/local-path`` gave to this node.

A directory is made when a pod first uses its volume, keeps its data over pods, agents and reboots, and goes
when the cloud asks for it: an annotation of the Node names the volumes to remove, and this node says among
``volumesInUse`` of its status which it has and which of those it has removed. Its disk's size and what is
free of it are in its capacity and allocatable, coarsely, so that a busy disk is not a stream of reports.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from kedge import faults
from kedge.api.keys import ObjectKey
from kedge.edge.kubelet.volumes.errors import VolumeError
from kedge.edge.kubelet.volumes.sources import plain_name
from kedge.edge.kubelet.volumes.trees import remove_tree
from kedge.errors import Gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from kedge.store import Store

PROVISIONER = "kedge.io/local-path"
POOL = "kedge.io/local-storage"
TO_REMOVE = "volumes.kedge.io/remove"
DIRECTORY = "volumes.kedge.io/directory"
HELD = "kedge.io/local-path/"
REMOVED = "kedge.io/local-path-removed/"
MODE = 0o777
MAX_NAMES = 4096
AGAIN_SECONDS = 1.0
"""How long to wait for what a pod still had."""
FAILED_SECONDS = 30.0
"""How long to wait when something cannot be removed, which is said each time."""
_GOING = ".removing-"

_log = logging.getLogger(__name__)


class LocalPath:
    """The volumes of this node.

    Args:
        directory: where they are; made when the first one is.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self._asked: tuple[str, ...] = ()
        self._free = 0

    def directory(self, name: str) -> Path:
        """A volume's directory, made if it is not there.

        Raises:
            VolumeError: it cannot be made.
        """
        found = self.path / plain_name(name)
        try:
            if not found.is_dir():
                self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
                found.mkdir(mode=MODE)
                if __debug__:
                    faults.point("volume.local_path.made")
            if found.stat().st_mode & 0o777 == 0o755 and not any(found.iterdir()):
                found.chmod(MODE)  # what the process's umask took
        except OSError as error:
            raise VolumeError(f"cannot make {found}: {error.strerror}") from error
        return found

    def held(self) -> list[str]:
        """The volumes that have a directory."""
        try:
            return sorted(one.name for one in self.path.iterdir() if one.name[0] != ".")
        except FileNotFoundError:
            return []

    async def remove_asked(self, node: dict[str, Any] | None, in_use: Iterable[str]) -> bool:
        """Removes what the Node object asks to remove, unless a container still uses it.

        Args:
            node: the Node.
            in_use: paths that pods of this node have.

        Returns:
            Whether all of it is gone.
        """
        annotations = ((node or {}).get("metadata") or {}).get("annotations") or {}
        names = [one for one in str(annotations.get(TO_REMOVE) or "").split(",") if one]
        self._asked = tuple(names[:MAX_NAMES])
        used = set(in_use)
        for name in self._asked:
            found = self.path / plain_name(name)
            if str(found) not in used and found.exists():
                found.rename(self.path / f"{_GOING}{name}")
        await self._sweep()
        return not any((self.path / one).exists() for one in self._asked)

    async def _sweep(self) -> None:
        """Removes what is on its way out, also what a crash left so."""
        try:
            going = [one for one in self.path.iterdir() if one.name.startswith(_GOING)]
        except FileNotFoundError:
            return
        for one in going:
            await asyncio.to_thread(remove_tree, one)
            _log.info("removed the data of volume %s", one.name.removeprefix(_GOING))

    def describe(self, status: dict[str, Any]) -> dict[str, Any]:
        """A Node's status with what this node has of local volumes.

        Args:
            status: the rest of it; not changed.
        """
        top = self.path
        while not top.exists() and top != top.parent:
            top = top.parent
        disk = os.statvfs(top)
        size = disk.f_frsize * (disk.f_blocks - disk.f_bfree + disk.f_bavail)
        step = max(64 << 20, size >> 7)
        free = disk.f_frsize * disk.f_bavail
        if not self._free or abs(free - self._free) >= step:
            self._free = free
        held = self.held()
        gone = [
            one
            for one in self._asked
            if one not in held and not (self.path / f"{_GOING}{one}").exists()
        ]
        names = [*(f"{HELD}{one}" for one in held), *(f"{REMOVED}{one}" for one in gone)]
        return status | {
            "capacity": status["capacity"] | {POOL: str(size)},
            "allocatable": status["allocatable"] | {POOL: str(self._free // step * step)},
            **({"volumesInUse": names} if names else {}),
        }


async def follow_node(
    local_path: LocalPath,
    store: Store,
    name: str,
    in_use: Callable[[], Iterable[str]],
    report: Callable[[], None],
) -> None:
    """Removes volumes as the Node object asks, as soon as it does, until cancelled.

    Args:
        local_path: the volumes.
        store: the node's replica.
        name: this node's.
        in_use: paths that pods have.
        report: makes the node's status be reported.
    """
    key, asked = ObjectKey("", "nodes", "", name), ""
    while True:
        watch = store.watch([("", "nodes")])
        try:
            done = await _follow(local_path, store.get(key), asked, in_use, report)
            if done is None:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            asked = done
            async for batch in watch:
                if any(event.type == "PUT" and event.key == key for event in batch):
                    break
        except (OSError, VolumeError) as error:
            _log.warning("volumes cannot be removed: %s", error)
            await asyncio.sleep(FAILED_SECONDS)
        except Gone:
            _log.debug("the watch of the node fell behind")
        finally:
            watch.close()


async def _follow(
    local_path: LocalPath,
    stored: Any,
    asked: str,
    in_use: Callable[[], Iterable[str]],
    report: Callable[[], None],
) -> str | None:
    """Removes what is asked for and was not yet; what is asked for now, None if some of it is still there.

    Raises:
        VolumeError: it asks for what cannot be a volume's name.
        OSError: something cannot be removed.
    """
    node = None if stored is None else json.loads(stored.value)
    wanted = str(
        (((node or {}).get("metadata") or {}).get("annotations") or {}).get(TO_REMOVE) or ""
    )
    if wanted == asked:
        return asked
    if not await local_path.remove_asked(node, in_use()):
        return None
    report()
    return wanted
