# SPDX-License-Identifier: Apache-2.0
"""A connection to a port of a pod that no route leads to: through the API server's own port-forward, and so its node's link.

A WebSocket of ``v4.channel.k8s.io``: each message begins with a channel, 0 for data and 1 for an error, and the first
of each channel carries the port. TLS with the pod goes inside, so that nobody between can read or answer.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_MESSAGE = 1 << 20
MAX_HEAD = 16 * 1024
_BLOCK = 16 * 1024
_DATA, _ERROR = 0, 1
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


@dataclass(frozen=True, slots=True)
class ApiServer:
    """How the control plane reaches its own API server.

    Attributes:
        host: where it listens.
        port: there.
        token: whose bearer may forward ports of all pods.
        ca: PEM of its authority.
    """

    host: str
    port: int
    token: str = field(repr=False)
    ca: str


class Pod(NamedTuple):
    """A pod's port."""

    namespace: str
    name: str
    port: int


class Trust(NamedTuple):
    """Who answers: a certificate that holds for a name."""

    context: ssl.SSLContext
    host: str


async def exchange(api: ApiServer, pod: Pod, trust: Trust, request: bytes, limit: int) -> bytes:
    """Sends a request to a pod over TLS; all that comes back.

    Raises:
        OSError: there is no way to the pod, or it is not who it should be.
        ValueError: the answer is larger than ``limit``.
    """
    socket = await _Socket.open(api, pod)
    try:
        return await _Secure(socket, trust).exchange(request, limit)
    finally:
        socket.close()


class _Socket:
    """The WebSocket, as a stream of bytes to one port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._begun: set[int] = set()
        self._fragments = b""

    @classmethod
    async def open(cls, api: ApiServer, pod: Pod) -> _Socket:
        """Asks for the port to be forwarded."""
        trusted = ssl.create_default_context(cadata=api.ca)
        reader, writer = await asyncio.open_connection(
            api.host.strip("[]"), api.port, ssl=trusted, limit=MAX_HEAD
        )
        made = cls(reader, writer)
        try:
            await made._upgrade(api, pod)
        except BaseException:
            made.close()
            raise
        return made

    async def _upgrade(self, api: ApiServer, pod: Pod) -> None:
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/portforward?ports={pod.port}"
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: {api.host}:{api.port}\r\nAuthorization: Bearer {api.token}\r\n"
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        )
        self._writer.write(head.encode("ascii"))
        why = "the port of the pod cannot be forwarded"
        try:
            answer = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise OSError(f"{why}: {error}") from error
        status = answer.split(b"\r\n", 1)[0].decode("latin-1")
        if status.split(" ")[1:2] != ["101"]:
            raise OSError(f"{why}: {status[:200]}")

    def close(self) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), _BLOCK):
            self._writer.write(frame(_BINARY, bytes([_DATA]) + data[at : at + _BLOCK]))
        await self._writer.drain()

    async def receive(self) -> bytes:
        """The next bytes; none when the pod has no more."""
        while True:
            try:
                opcode, message = await self._message()
            except asyncio.IncompleteReadError:
                return b""
            if opcode == _PING:
                self._writer.write(frame(_PONG, message))
            if opcode == _CLOSE:
                return b""
            if opcode != _BINARY or not message:
                continue
            channel, data = message[0], message[1:]
            if channel not in self._begun:
                self._begun.add(channel)
                data = data[2:]
            if data and channel == _ERROR:
                raise OSError(data[:500].decode("utf-8", "replace"))
            if data and channel == _DATA:
                return data

    async def _message(self) -> tuple[int, bytes]:
        """One message; fragments are put together, around which others may come."""
        while True:
            first, second = await self._reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", await self._reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
            if len(self._fragments) + size > MAX_MESSAGE:
                raise OSError("a message of the forwarded port is too large")
            part = await self._reader.readexactly(size)
            opcode = first & 0x0F
            if opcode >= _CLOSE:
                return opcode, part
            self._fragments += part
            if first & 0x80:
                whole, self._fragments = self._fragments, b""
                return _BINARY, whole


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, whole and masked."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        length = bytes([0x80 | 127]) + struct.pack(">Q", size)
    mask = os.urandom(4)
    repeated = mask * (size // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:size], "big")
    return bytes([0x80 | opcode]) + length + mask + masked.to_bytes(size, "big")


class _Secure:
    """TLS inside a socket."""

    def __init__(self, socket: _Socket, trust: Trust) -> None:
        self._socket = socket
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=trust.host
        )

    async def exchange(self, request: bytes, limit: int) -> bytes:
        await self._run(self._tls.do_handshake)
        await self._run(lambda: self._tls.write(request))
        parts, size = [], 0
        while part := await self._run(self._read):
            size += len(part)
            if size > limit:
                raise ValueError(f"the answer is larger than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    def _read(self) -> bytes:
        try:
            return self._tls.read(_BLOCK)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def _run(self, step: Callable[[], T]) -> T:
        """Takes a step of TLS, with as many turns of the socket as it needs."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._socket.receive()
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
                continue
            await self._flush()
            return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._socket.send(self._outgoing.read())
