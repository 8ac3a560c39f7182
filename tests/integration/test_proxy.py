# SPDX-License-Identifier: Apache-2.0
"""The link simulator does what tests, the demo and the benches believe of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from tests.rig.proxy import Proxy


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[str, int]]:
    """A server that gives back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]


@contextmanager
def proxied(target: tuple[str, int], **options: float) -> Iterator[Proxy]:
    proxy = Proxy(target, **options)  # type: ignore[arg-type]
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


async def exchange(proxy: Proxy, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(sent)
        return await reader.readexactly(len(sent))
    finally:
        writer.close()


async def test_bytes_are_counted_each_way() -> None:
    async with echoing() as target:
        with proxied(target) as proxy:
            assert await exchange(proxy, b"x" * 1000) == b"x" * 1000
            assert (proxy.bytes_up, proxy.bytes_down) == (1000, 1000)


async def test_a_delay_is_added_each_way_and_order_is_kept() -> None:
    async with echoing() as target:
        with proxied(target, delay_seconds=0.1) as proxy:
            begin = time.monotonic()
            assert await exchange(proxy, bytes(range(256))) == bytes(range(256))
            assert time.monotonic() - begin >= 0.2


async def test_bandwidth_is_limited() -> None:
    async with echoing() as target:
        with proxied(target, bytes_per_second=200_000) as proxy:
            begin = time.monotonic()
            await exchange(proxy, b"x" * 40_000)
            assert time.monotonic() - begin >= 0.2


async def test_the_link_ends_exactly_after_the_bytes_asked_for() -> None:
    async with echoing() as target:
        with proxied(target) as proxy:
            proxy.cut_after("down", 10)
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"x" * 100)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(11)
            writer.close()
            assert proxy.bytes_down == 10


async def test_a_cut_link_refuses_until_it_is_restored() -> None:
    async with echoing() as target:
        with proxied(target) as proxy:
            proxy.cut()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await exchange(proxy, b"x")
            proxy.restore()
            assert await exchange(proxy, b"x") == b"x"


async def test_a_silent_cut_answers_nothing() -> None:
    async with echoing() as target:
        with proxied(target) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            proxy.cut(silently=True)
            writer.write(b"x")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)
            writer.close()
