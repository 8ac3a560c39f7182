# SPDX-License-Identifier: Apache-2.0
"""Container log files: the runtime writes them, this keeps them small.

A file is ``<logs>/<namespace>_<pod>_<uid>/<container>/<attempt>.log``; one line is
``<time> <stdout|stderr> <F|P> <text>``. A file over the limit is renamed to ``<attempt>.log.<time>`` and
the runtime is asked to open a new one; all but the newest renamed file are compressed, and the
oldest go. No line is lost: the runtime writes to the renamed file until it opens the new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kedge import faults
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.edge.runtime import ContainerRuntime

PERIOD_SECONDS = 10.0
_COPY_BYTES = 256 * 1024
_STAMP = "%Y%m%d-%H%M%S"
_COMPRESSED, _UNFINISHED = ".gz", ".tmp"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much log a container may keep.

    Attributes:
        file_bytes: a file is rotated when it is larger.
        files: how many there may be, the one being written included.
    """

    file_bytes: int = 10 << 20
    files: int = 5


class Rotator:
    """Rotates what grows too large, until cancelled.

    Args:
        logs: the directory of all pods' logs.
        runtime: opens new files.
        limits: what a container may keep.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        logs: Path,
        runtime: ContainerRuntime,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._logs = logs
        self._runtime = runtime
        self._limits = limits or Limits()
        self._clock = clock

    async def run(self) -> None:
        """Looks now and then; a failure is told and tried again."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await self.rotate()
            except (RuntimeFailure, OSError) as error:
                _log.warning("container logs cannot be rotated: %s", error)

    async def rotate(self) -> list[Path]:
        """Rotates every log that is too large now; those that were."""
        large = set(await asyncio.to_thread(self._large))
        if not large:
            return []
        done = []
        for container in await self._runtime.list_containers():
            if container.state != "running":
                continue
            status = await self._runtime.container_status(container.id)
            path = Path(status.log_path) if status is not None and status.log_path else None
            if path is not None and path in large:
                await self._rotate(container.id, path)
                done.append(path)
        return done

    async def _rotate(self, container_id: str, path: Path) -> None:
        stamp = time.strftime(_STAMP, time.gmtime(self._clock()))
        renamed = path.with_name(f"{path.name}.{stamp}")
        if not _move(path, renamed):
            return  # twice within a second: the next look is soon enough
        if __debug__:
            faults.point("log.renamed")
        try:
            await self._runtime.reopen_container_log(container_id)
        except RuntimeFailure:
            _move(renamed, path)
            raise
        if __debug__:
            faults.point("log.reopened")
        await asyncio.to_thread(self._tidy, path)
        if __debug__:
            faults.point("log.tidied")

    def _large(self) -> list[Path]:
        return [
            path for path in self._logs.glob("*/*/*.log") if _size(path) > self._limits.file_bytes
        ]

    def _tidy(self, path: Path) -> None:
        """Compresses all but the newest renamed file and removes what is too many."""
        renamed = []
        for one in sorted(path.parent.glob(f"{path.name}.*")):
            if one.suffix == _UNFINISHED:
                one.unlink(missing_ok=True)
            else:
                renamed.append(one)
        keep = max(0, self._limits.files - 1)
        for old in renamed[: len(renamed) - keep]:
            old.unlink(missing_ok=True)
        for one in renamed[len(renamed) - keep : -1] if keep else []:
            if one.suffix != _COMPRESSED:
                _compress(one)


def remove(path: Path) -> None:
    """Removes a container's log and what was rotated out of it."""
    for one in [path, *path.parent.glob(f"{path.name}.*")]:
        one.unlink(missing_ok=True)


def _move(path: Path, target: Path) -> bool:
    """Renames, unless something is there already."""
    if target.exists():
        return False
    path.rename(target)
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _compress(path: Path) -> None:
    import gzip  # noqa: PLC0415 - not until the first log has grown that large

    unfinished = path.with_name(path.name + _UNFINISHED)
    with path.open("rb") as source, gzip.open(unfinished, "wb", compresslevel=3) as target:
        while block := source.read(_COPY_BYTES):
            target.write(block)
    os.replace(unfinished, path.with_name(path.name + _COMPRESSED))  # noqa: PTH105
    path.unlink()
