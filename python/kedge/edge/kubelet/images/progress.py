# SPDX-License-Identifier: Apache-2.0
"""Saying how far a long pull is: rarely, and from what containerd has received so far.

CRI tells nothing of a pull before its end. containerd keeps what it is receiving in a directory for
each blob (``ingest/*/{data,total}`` of its content store), beside the snapshots whose place CRI
tells. A runtime that keeps it elsewhere is only said to be at it.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_SECONDS = 15.0
"""Then after twice as long each time: a pull of an hour says eight times how far it is."""
MAX_BLOBS = 64
MAX_NUMBER = 32
_CONTENT = Path("io.containerd.content.v1.content") / "ingest"


class Progress:
    """Tells of one pull until stopped.

    Args:
        say: takes the text.
        mountpoint: where the runtime's images are; empty when it is not known.
        pulls: how many pulls there are now.
    """

    def __init__(
        self, say: Callable[[str], None], mountpoint: str, pulls: Callable[[], int]
    ) -> None:
        self._say = say
        self._mountpoint = mountpoint
        self._pulls = pulls
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._wait = FIRST_SECONDS
        self._timer = self._loop.call_later(self._wait, self._tell)

    def _tell(self) -> None:
        text = f"{self._loop.time() - self._began:.0f}s so far"
        received, total = receiving(Path(self._mountpoint)) if self._mountpoint else (0, 0)
        if received:
            text += f", {megabytes(received)} received"
            text += f" of {megabytes(total)} in layers under way" if total >= received else ""
            text += " by all pulls" if self._pulls() > 1 else ""
        self._say(text)
        self._wait *= 2
        self._timer = self._loop.call_later(self._wait, self._tell)

    def stop(self) -> None:
        """Says no more."""
        self._timer.cancel()


def receiving(mountpoint: Path) -> tuple[int, int]:
    """Bytes received and wanted of the blobs under way; 0 wanted when that is not known of all."""
    received = total = 0
    is_known = True
    try:
        found = list(islice((mountpoint.parent / _CONTENT).iterdir(), MAX_BLOBS))
    except OSError:
        return 0, 0
    for one in found:
        try:
            received += (one / "data").stat().st_size
            with (one / "total").open() as file:
                total += int(file.read(MAX_NUMBER))
        except (OSError, ValueError):
            # It ended meanwhile, or its size is not known.
            is_known = is_known and not one.exists()
    return received, total if is_known else 0


def megabytes(count: int) -> str:
    """For people."""
    return f"{count / 1e6:.1f} MB"
