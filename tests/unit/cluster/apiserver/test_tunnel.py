# SPDX-License-Identifier: Apache-2.0
"""The WebSocket that a pod's port is forwarded over: frames, channels, and what a peer must not send."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.cluster.apiserver.admission.webhooks import tunnel


class Sent:
    """What a socket writes."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        """Never full."""


def message(payload: bytes, opcode: int = 2, *, last: bool = True) -> bytes:
    """A server's frame, which is not masked."""
    size = len(payload)
    first = bytes([(0x80 if last else 0) | opcode])
    if size < 126:
        return first + bytes([size]) + payload
    return first + bytes([126]) + struct.pack(">H", size) + payload


def socket(*frames: bytes) -> tuple[Any, Sent]:
    reader, sent = asyncio.StreamReader(), Sent()
    reader.feed_data(b"".join(frames))
    reader.feed_eof()
    return tunnel._Socket(reader, cast("Any", sent)), sent


def unmasked(data: bytes) -> bytes:
    size, at = data[1] & 0x7F, 2
    if size == 126:
        (size,), at = struct.unpack(">H", data[2:4]), 4
    elif size == 127:
        (size,), at = struct.unpack(">Q", data[2:10]), 10
    mask, payload = data[at : at + 4], data[at + 4 :]
    assert (data[1] & 0x80, len(payload)) == (0x80, size)
    return bytes(one ^ mask[place % 4] for place, one in enumerate(payload))


@given(st.binary(max_size=300) | st.integers(0, 70_000).map(bytes))
def test_frames_are_masked_and_say_how_long_they_are(payload: bytes) -> None:
    assert unmasked(tunnel.frame(2, payload)) == payload


async def test_the_first_message_of_a_channel_names_the_port() -> None:
    made, _ = socket(
        message(b"\x00\x50\x00"), message(b"\x01\x50\x00"), message(b"\x00hello"), message(b"\x00you")
    )  # fmt: skip
    assert [await made.receive() for _ in range(3)] == [b"hello", b"you", b""]


async def test_fragments_are_put_together_around_pings() -> None:
    made, sent = socket(
        message(b"\x00\x50\x00a", last=False),
        message(b"are you there", opcode=9),
        message(b"b" * 200, opcode=0),
        message(b"", opcode=8),
    )
    assert await made.receive() == b"a" + b"b" * 200
    assert await made.receive() == b""
    assert (sent.data[0] & 0x0F, unmasked(sent.data)) == (10, b"are you there")


async def test_what_the_node_says_is_an_error() -> None:
    made, _ = socket(message(b"\x01\x50\x00"), message(b"\x01connection refused"))
    with pytest.raises(OSError, match="connection refused"):
        await made.receive()


async def test_a_message_has_a_limit() -> None:
    made, _ = socket(bytes([0x82, 127]) + struct.pack(">Q", tunnel.MAX_MESSAGE + 1))
    with pytest.raises(OSError, match="too large"):
        await made.receive()
