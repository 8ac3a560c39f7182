# SPDX-License-Identifier: Apache-2.0
"""Container log files: the runtime writes them, this keeps them small.

A file is ``<logs>/<namespace>_<pod>_<uid>/<container>/<attempt>.log``; one line is
``<time> <stdout|stderr> <F|P> <text>``. A file over the limit is renamed to ``<attempt>.log.<time>`` and
the runtime is asked to open a new one; all but the newest renamed file are compressed, and the
oldest go. No line is lost: the runtime writes to the renamed file until it opens the new one. An
agent that dies in between leaves a container without its file; the next look has one opened.

A look costs a ``stat`` per running container. It comes every ``PERIOD_SECONDS``, and the sooner the
faster the fastest log grows: a container's logs are over their bound (files times size) by what it
writes between two looks at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kedge import faults
from kedge.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kedge.edge.runtime import ContainerRuntime

PERIOD_SECONDS = 1.0
SHORTEST_SECONDS = 0.1
QUIET_SECONDS = 30.0
"""A log that is rotated again sooner than this is not compressed: the files are about to go."""
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
        running: ids and log files of the containers that run, asked at each look.
        runtime: opens new files.
        limits: what a container may keep.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        running: Callable[[], Iterable[tuple[str, str]]],
        runtime: ContainerRuntime,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._running = running
        self._runtime = runtime
        self._limits = limits or Limits()
        self._clock = clock
        self._sizes: dict[str, int] = {}
        self._looked_at = 0.0
        self._rotated_at: dict[str, float] = {}
        self._failing: set[str] = set()
        self.pause_seconds = PERIOD_SECONDS

    async def run(self) -> None:
        """Looks now and then; a failure is told and tried again."""
        while True:
            await asyncio.sleep(self.pause_seconds)
            await self.look()

    async def look(self) -> list[str]:
        """Rotates every log that is too large now; those that were."""
        now = self._clock()
        elapsed = max(SHORTEST_SECONDS, now - self._looked_at)
        sizes: dict[str, int] = {}
        large: list[tuple[str, str]] = []
        due = PERIOD_SECONDS
        for container, path in self._running():
            size = _size(path)
            if size > self._limits.file_bytes or size < 0:
                large.append((container, path))
            before = self._sizes.get(container)
            if before is not None and size > before:
                room = self._limits.file_bytes - size
                due = min(due, max(0, room) * elapsed / (size - before))
            sizes[container] = max(0, size)
        self._sizes, self._looked_at = sizes, now
        self._rotated_at = {one: at for one, at in self._rotated_at.items() if one in sizes}
        self._failing &= sizes.keys()
        self.pause_seconds = max(SHORTEST_SECONDS, due)
        return [path for container, path in large if await self._handle(container, Path(path))]

    async def _handle(self, container: str, path: Path) -> bool:
        """Rotates one log, or has a missing one opened; one that fails does not hold up others."""
        try:
            await self._rotate(container, path)
        except (RuntimeFailure, OSError) as error:
            if container not in self._failing:
                _log.warning("the log of container %s cannot be rotated: %s", container, error)
            self._failing.add(container)
            return False
        self._failing.discard(container)
        return True

    async def _rotate(self, container: str, path: Path) -> None:
        now = self._clock()
        stamp = f"{time.strftime(_STAMP, time.gmtime(now))}-{int(now * 1000) % 1000:03}"
        renamed = path.with_name(f"{path.name}.{stamp}")
        _move(path, renamed)
        if __debug__:
            faults.point("log.renamed")
        try:
            await self._runtime.reopen_container_log(container)
        except RuntimeFailure:
            _move(renamed, path)
            raise
        if __debug__:
            faults.point("log.reopened")
        self._sizes[container] = 0
        is_fast = now < self._rotated_at.get(container, 0.0) + QUIET_SECONDS
        self._rotated_at[container] = now
        await asyncio.to_thread(self._tidy, path, compress=not is_fast)
        if __debug__:
            faults.point("log.tidied")

    def _tidy(self, path: Path, *, compress: bool) -> None:
        """Removes what is too many; compresses all but the newest renamed file."""
        renamed = []
        for one in sorted(path.parent.glob(f"{path.name}.*")):
            if one.suffix == _UNFINISHED:
                one.unlink(missing_ok=True)
            else:
                renamed.append(one)
        keep = max(0, self._limits.files - 1)
        for old in renamed[: len(renamed) - keep]:
            old.unlink(missing_ok=True)
        if not compress or not keep:
            return
        for one in renamed[len(renamed) - keep : -1]:
            if one.suffix != _COMPRESSED:
                _compress(one)


def remove(path: Path) -> None:
    """Removes a container's log and what was rotated out of it."""
    for one in [path, *path.parent.glob(f"{path.name}.*")]:
        one.unlink(missing_ok=True)


def _move(path: Path, target: Path) -> None:
    """Renames, unless there is nothing or something is there already."""
    if not target.exists():
        with contextlib.suppress(FileNotFoundError):
            path.rename(target)


def _size(path: str) -> int:
    """A file's size; -1 if it is not there."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - asked often, of paths that are text
    except FileNotFoundError:
        return -1
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
