# SPDX-License-Identifier: Apache-2.0
"""Calls to plugins and questions from them: the face of the extension's ``PluginClient`` and ``PluginServer``.

A call is a ticket and a future, a stream or a watched directory a ticket and a queue. Every call has a
deadline. A caller that is cancelled gives up waiting, not the call.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kedge import _core  # noqa: TID251 - this file is the face of _core's plugins
from kedge.aio import batches
from kedge.edge.kubelet.plugins.errors import UNAVAILABLE, PluginCallError
from kedge.errors import Closed, KedgeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from kedge.runtime import Runtime

NEWS = -1
CALL_SECONDS = 15.0
MAX_NEWS = 64
"""Messages of one stream that wait; a plugin that talks faster loses the older ones: each is whole."""


class PluginClient:
    """Calls plugins by the path of their socket; ``run`` must be going for calls to return.

    Args:
        runtime: the process's tokio runtime.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._client = _core.PluginClient(runtime)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._lasting: dict[int, asyncio.Queue[tuple[int, bytes]]] = {}
        self._ticket = 0

    async def run(self) -> None:
        """Hands answers to those who wait, until cancelled."""
        try:
            async for batch in batches(self._client):
                for ticket, code, body in batch:
                    if ticket in self._lasting:
                        _put(self._lasting[ticket], (code, body))
                    else:
                        self._answer(ticket, code, body)
        finally:
            self._client.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Closed("the plugin client was closed"))

    async def call(
        self, endpoint: str, method: str, request: dict[str, Any], seconds: float = CALL_SECONDS
    ) -> Any:
        """Calls a method of the plugin at ``endpoint``; the answer as it came, decoded.

        Raises:
            PluginCallError: the plugin refused, failed, is away or did not answer in time.
            Closed: this client was closed.
        """
        ticket = self._next()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        try:
            body = json.dumps(request, ensure_ascii=False).encode()
            self._client.call(ticket, endpoint, method, body, int(seconds * 1000))
            return json.loads(await future)
        finally:
            del self._waiting[ticket]

    async def list_and_watch(self, endpoint: str) -> AsyncIterator[list[dict[str, Any]]]:
        """A device plugin's devices, whole, whenever they change.

        Raises:
            PluginCallError: how the stream ended; it never ends otherwise.
        """
        with self._lasts() as (ticket, queue):
            self._client.list_and_watch(ticket, endpoint)
            while True:
                code, body = await queue.get()
                if code != NEWS:
                    raise PluginCallError(code or UNAVAILABLE, body.decode(errors="replace"))
                yield json.loads(body)["devices"]

    async def changes(self, directory: Path) -> AsyncIterator[None]:
        """Once now, then whenever something comes into a directory or goes."""
        with self._lasts() as (ticket, queue):
            self._client.watch(ticket, directory)
            while True:
                yield
                await queue.get()
                while not queue.empty():
                    queue.get_nowait()

    def forget(self, endpoint: str) -> None:
        """Lets go of the connection to a plugin that is gone."""
        self._client.forget(endpoint)

    def _next(self) -> int:
        self._ticket += 1
        return self._ticket

    @contextmanager
    def _lasts(self) -> Iterator[tuple[int, asyncio.Queue[tuple[int, bytes]]]]:
        ticket = self._next()
        queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(MAX_NEWS)
        self._lasting[ticket] = queue
        try:
            yield ticket, queue
        finally:
            del self._lasting[ticket]
            self._client.stop(ticket)

    def _answer(self, ticket: int, code: int, body: bytes) -> None:
        future = self._waiting.get(ticket)
        if future is None or future.done():
            return
        if code == 0:
            future.set_result(body)
        else:
            future.set_exception(PluginCallError(code, body.decode(errors="replace")))


def _put(queue: asyncio.Queue[tuple[int, bytes]], item: tuple[int, bytes]) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)


INVALID_ARGUMENT, INTERNAL = 3, 13


class PluginServer:
    """Answers what is asked at a socket; ``run`` must be going.

    Args:
        runtime: the process's tokio runtime.
        path: of the socket; what is there is replaced.

    Raises:
        KedgeError: it cannot listen there.
    """

    def __init__(self, runtime: Runtime, path: Path) -> None:
        self._server = _core.PluginServer(runtime, path)

    async def run(self, decide: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
        """Answers until cancelled: ``decide`` gets a method's path and the request."""
        try:
            async for batch in batches(self._server):
                for number, method, request in batch:
                    code, body = await _decide(decide, method, request)
                    self._server.answer(number, code, body)
        finally:
            self._server.close()


async def _decide(
    decide: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]], method: str, request: bytes
) -> tuple[int, bytes]:
    try:
        return 0, json.dumps(await decide(method, json.loads(request))).encode()
    except PluginCallError as error:
        return error.code, str(error).encode()
    except KedgeError as error:
        return INVALID_ARGUMENT, str(error).encode()
