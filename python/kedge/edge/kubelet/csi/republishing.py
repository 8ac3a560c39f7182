# SPDX-License-Identifier: Apache-2.0
"""Volumes whose drivers want to publish them again while pods run (``requiresRepublish``).

As often as a kubelet looks at a pod that does not change, and at once when something of the pod changed, such as
a token. One volume is published by one at a time; while a driver takes its time it is not asked again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from kedge.edge.kubelet.csi.requests import Volume
    from kedge.edge.kubelet.volumes.sources import Request

SECONDS = 60.0


class Republishing:
    """Follows such volumes for as long as their pods have them.

    Args:
        spawn: runs a task for as long as the agent runs.
        publish: publishes one volume again; it never fails.
    """

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        publish: Callable[[Request, Volume], Awaitable[None]],
    ) -> None:
        self._spawn = spawn
        self._publish = publish
        self._wanted: dict[Path, tuple[Request, Volume]] = {}
        self._busy: set[Path] = set()
        self._runs = False

    def follow(
        self, directory: Path, request: Request, volume: Volume, about: dict[str, Any] | None
    ) -> None:
        """Takes in a volume that is published, if its driver wants that; ``about`` is its CSIDriver."""
        if not ((about or {}).get("spec") or {}).get("requiresRepublish"):
            self._wanted.pop(directory, None)
            return
        self._wanted[directory] = (request, volume)
        if not self._runs:
            self._runs = True
            self._spawn(self._run())

    def forget(self, directory: Path) -> None:
        """A volume is to go."""
        self._wanted.pop(directory, None)

    def soon(self, directory: Path) -> None:
        """Something of a volume's pod changed."""
        if directory in self._wanted and directory not in self._busy:
            self._busy.add(directory)
            self._spawn(self._again(directory))

    async def _run(self) -> None:
        while self._wanted:
            await asyncio.sleep(SECONDS)
            for directory in list(self._wanted):
                self.soon(directory)
        self._runs = False

    async def _again(self, directory: Path) -> None:
        try:
            wanted = self._wanted.get(directory)
            if wanted is not None:
                await self._publish(*wanted)
        finally:
            self._busy.discard(directory)
