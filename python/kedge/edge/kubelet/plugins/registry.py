# SPDX-License-Identifier: Apache-2.0
"""The registry directory: each socket in it is a plugin that wants to be registered.

A socket that comes is asked who it is (``GetInfo``), handed to whoever takes its type, and told how that
went; one that is replaced (a plugin that restarted) is asked again, one that goes is let go. A plugin
that does not answer, or is refused, is asked again at a falling pace, and no other waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kedge.aio import Backoff
from kedge.edge.kubelet.plugins.errors import PluginRefusedError
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kedge.edge.kubelet.plugins.face import PluginClient

MAX_PLUGINS = 64
ASK_SECONDS = 10.0

_log = logging.getLogger(__name__)
_Mark = tuple[int, int]


class Taker(Protocol):
    """Takes plugins of one type."""

    async def taken(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Registers a plugin.

        Raises:
            KedgeError: why not.
        """

    def gone(self, name: str, endpoint: str) -> None:
        """Its registration socket has gone."""


class Registry:
    """Follows one directory.

    Args:
        client: asks plugins.
        directory: where their sockets come.
        takers: makes what takes a type of plugin; None for a type that is not known here.
        spawn: runs a task for as long as the agent runs.
    """

    def __init__(
        self,
        client: PluginClient,
        directory: Path,
        takers: Callable[[str], Taker | None],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._client = client
        self._directory = directory
        self._takers = takers
        self._spawn = spawn
        self._known: dict[str, tuple[_Mark, asyncio.Task[None]]] = {}
        self._registered: dict[str, tuple[Taker, str, str]] = {}

    async def run(self) -> None:
        """Follows the directory until cancelled."""
        async for _ in self._client.changes(self._directory):
            self.look()

    def look(self) -> None:
        """Compares what is in the directory with what is known."""
        present = sockets(self._directory)
        for path in [path for path, (mark, _) in self._known.items() if present.get(path) != mark]:
            self._forget(path)
        for path, mark in present.items():
            if path not in self._known:
                self._known[path] = (mark, self._spawn(self._register(path)))

    def _forget(self, path: str) -> None:
        _, task = self._known.pop(path)
        task.cancel()
        self._client.forget(path)
        registered = self._registered.pop(path, None)
        if registered is not None:
            taker, name, endpoint = registered
            _log.info("plugin %s has gone socket=%s", name, path)
            taker.gone(name, endpoint)

    async def _register(self, path: str) -> None:
        backoff = Backoff(0.5, 60.0)
        while True:
            try:
                await self._attempt(path)
            except KedgeError as error:
                _log.warning("plugin at %s is not registered: %s", path, error)
                await asyncio.sleep(backoff.next_seconds())
            else:
                return

    async def _attempt(self, path: str) -> None:
        info = await self._client.call(path, "GetInfo", {}, ASK_SECONDS)
        name, endpoint = info["name"], info["endpoint"] or path
        try:
            taker = self._takers(info["type"])
            if taker is None:
                raise PluginRefusedError(f"no handler registered for plugin type: {info['type']}")
            await taker.taken(name, endpoint, info["supported_versions"])
        except KedgeError as error:
            await self._client.call(
                path,
                "NotifyRegistrationStatus",
                {"plugin_registered": False, "error": str(error)},
                ASK_SECONDS,
            )
            raise
        self._registered[path] = (taker, name, endpoint)
        _log.info("plugin %s registered type=%s socket=%s", name, info["type"], path)
        await self._client.call(
            path, "NotifyRegistrationStatus", {"plugin_registered": True}, ASK_SECONDS
        )


def sockets(directory: Path) -> dict[str, _Mark]:
    """The sockets of a directory, hidden ones apart, each with what changes when it is replaced."""
    found: dict[str, _Mark] = {}
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names, not paths
    except OSError:
        return found
    for name in names:
        if name.startswith(".") or len(found) >= MAX_PLUGINS:
            continue
        try:
            facts = Path(directory, name).stat()
        except OSError:
            continue
        if stat.S_ISSOCK(facts.st_mode):
            found[f"{directory}/{name}"] = (facts.st_ino, facts.st_mtime_ns)
    return found
