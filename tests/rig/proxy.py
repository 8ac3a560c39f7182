# SPDX-License-Identifier: Apache-2.0
"""A link simulator: a TCP proxy that delays each way, limits and counts bytes, and can be cut.

It runs on a loop in a thread of its own. Delay keeps order and does not limit bandwidth: each chunk
is due a fixed time after it arrived, or after the link has carried what came before it. A cut resets what is connected and, until ``restore``, refuses
what comes (or swallows it silently, as a dead route does).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from concurrent.futures import Future
from typing import Literal

Way = Literal["up", "down"]

CHUNK = 64 * 1024
MAX_QUEUED = 256
LINGER_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards 127.0.0.1:``port`` to ``target``.

    Args:
        target: host and port of the server.
        delay_seconds: added each way.
        bytes_per_second: what each way of a connection carries at most; 0 is no limit.
        port: where to listen; 0 takes a free one.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        delay_seconds: float = 0.0,
        bytes_per_second: float = 0.0,
        port: int = 0,
    ) -> None:
        self.target = target
        self.delay_seconds = delay_seconds
        self.bytes_per_second = bytes_per_second
        self.port = port
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0
        self._left: dict[Way, int] = {}
        self._blocked: Literal["no", "refuse", "swallow"] = "no"
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._ready: Future[int] = Future()
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Listens; returns when it does."""
        self._thread.start()
        self.port = self._ready.result(10)

    def stop(self) -> None:
        """Ends all connections and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def cut(self, *, silently: bool = False) -> None:
        """Resets every connection, or leaves them open and dead; then lets nothing through."""
        self._call(self._cut, "swallow" if silently else "refuse")

    def cut_after(self, way: Way, count: int) -> None:
        """Cuts when ``count`` more bytes went that way; the last of them still arrive."""
        self._call(self._left.__setitem__, way, count)

    def restore(self) -> None:
        """Lets new connections through; the ones that a cut left dead are reset."""
        self._call(self._restore)

    def _call(self, function, *arguments) -> None:  # type: ignore[no-untyped-def]
        done: Future[None] = Future()

        def run() -> None:
            function(*arguments)
            done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(10)

    def _cut(self, mode: Literal["refuse", "swallow"]) -> None:
        self._blocked = mode
        if mode == "refuse":
            self._reset_all()

    def _restore(self) -> None:
        if self._blocked == "swallow":
            self._reset_all()
        self._blocked = "no"

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self._ready.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        server.close()
        self._reset_all()
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self._blocked == "refuse":
                self._reset_all()
                return
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        self._writers.add(far_writer)
        try:
            up = asyncio.ensure_future(self._pipe(reader, far_writer, "up"))
            down = asyncio.ensure_future(self._pipe(far_reader, writer, "down"))
            _, left = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        finally:
            self._writers.discard(far_writer)
            far_writer.transport.abort()

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_QUEUED)
        sender = asyncio.ensure_future(self._send(queue, writer, way))
        free_at = 0.0
        try:
            while chunk := await reader.read(CHUNK):
                if self._blocked != "no":
                    continue
                now = self._loop.time()
                if self.bytes_per_second:
                    free_at = max(free_at, now) + len(chunk) / self.bytes_per_second
                await queue.put((max(free_at, now) + self.delay_seconds, chunk))
            await queue.put((max(free_at, self._loop.time()) + self.delay_seconds, b""))
            await sender
        finally:
            sender.cancel()

    async def _send(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, way: Way
    ) -> None:
        while True:
            due, chunk = await queue.get()
            wait = due - self._loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if not chunk:
                return
            if self._blocked != "no":
                continue
            chunk, is_last = self._counted(way, chunk)
            writer.write(chunk)
            await writer.drain()
            if is_last:
                self._cut("refuse")

    def _counted(self, way: Way, chunk: bytes) -> tuple[bytes, bool]:
        """What of the chunk still crosses, and whether the link ends there."""
        left = self._left.get(way)
        if left is not None and len(chunk) >= left:
            chunk = chunk[:left]
            del self._left[way]
        elif left is not None:
            self._left[way] = left - len(chunk)
        if way == "up":
            self.bytes_up += len(chunk)
        else:
            self.bytes_down += len(chunk)
        return chunk, left is not None and way not in self._left
