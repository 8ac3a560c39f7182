# SPDX-License-Identifier: Apache-2.0
"""A node's side of plugins that are programs of their own, without a container runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kedge.edge.kubelet.plugins.plugins import Plugins
from kedge.runtime import Runtime


class Events:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def node(self, reason: str, message: str, *, warning: bool = False) -> None:
        self.said.append((reason, message))

    def pod(self, pod: Any, reason: str, message: str, **_: Any) -> None:
        self.said.append((reason, message))


class NoCDI:
    """A container runtime that does not know CDI."""

    async def knows_cdi(self) -> bool:
        return False


@asynccontextmanager
async def plugged(directory: Path, events: Events) -> AsyncIterator[Plugins]:
    """Takes plugins; what the caller adds before it first waits is there when they begin."""
    runtime = Runtime(1)
    data: Any = (directory, directory, runtime, NoCDI(), events)
    plugins = Plugins(*data)
    running = asyncio.get_running_loop().create_task(plugins.run())
    try:
        yield plugins
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.to_thread(runtime.close)
