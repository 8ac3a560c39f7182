# SPDX-License-Identifier: Apache-2.0
"""Network probes against real servers on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kedge.edge.runtime.prober import NetworkProber
from kedge.errors import Invalid
from kedge.hub import certificates
from kedge.runtime import Runtime


@pytest.fixture
async def prober() -> AsyncIterator[NetworkProber]:
    runtime = Runtime(1)
    made = NetworkProber(runtime)
    task = asyncio.get_running_loop().create_task(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    runtime.close()


def self_signed(directory: Path) -> ssl.SSLContext:
    ca = certificates.create_ca("of its own making", days=1)
    pair = certificates.issue(ca, common_name="x", dns_names=["elsewhere"], days=1, server=True)
    (directory / "tls.crt").write_text(pair.certificate)
    (directory / "tls.key").write_text(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    return context


@contextlib.asynccontextmanager
async def serving(status: str, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("204 No Content", (True, "")),
        ("500 Oh", (False, "HTTP probe failed with statuscode: 500")),
    ],
)
async def test_a_server_is_asked_whoever_signed_its_certificate(
    prober: NetworkProber, tmp_path: Path, scheme: str, status: str, wanted: tuple[bool, str]
) -> None:
    context = self_signed(tmp_path) if scheme == "https" else None
    async with serving(status, context) as port:
        what = {"kind": scheme, "host": "127.0.0.1", "port": port, "path": "/healthz"}
        assert await prober.probe(what, 20) == wanted


async def test_what_is_no_probe_names_the_field(prober: NetworkProber) -> None:
    with pytest.raises(Invalid, match="missing field `host`"):
        await prober.probe({"kind": "tcp"}, 1)


async def test_a_hook_is_content_with_any_answer(prober: NetworkProber) -> None:
    async with serving("500 Oh", None) as port:
        what = {"kind": "http", "host": "127.0.0.1", "port": port, "path": "/", "any_status": True}
        assert await prober.probe(what, 20) == (True, "")
    answered, why = await prober.probe(what, 5)
    assert not answered, "nobody listens any more"
    assert str(port) in why


async def test_headers_of_a_probe_replace_its_own(prober: NetworkProber) -> None:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        headers = [("Host", "shop.example"), ("User-Agent", "mine"), ("X-A", "1"), ("X-A", "2")]
        what = {"kind": "http", "host": "127.0.0.1", "port": port, "headers": headers}
        assert await prober.probe(what, 20) == (True, "")
    lines = asked[0].lower().split("\r\n")
    wanted = ("host: shop.example", "user-agent: mine", "x-a: 1", "x-a: 2")
    assert [lines.count(line) for line in wanted] == [1, 1, 1, 1]
    assert sum(line.startswith(("host:", "user-agent:")) for line in lines) == 2
