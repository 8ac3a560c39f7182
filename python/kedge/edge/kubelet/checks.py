# SPDX-License-Identifier: Apache-2.0
"""One probe attempt: exec, HTTP or TCP, bounded in time and in what is read.

The HTTP client is a few lines over asyncio streams. The agent has no TLS in Python, so HTTPS and
gRPC probes check only that the port accepts a connection; an Event says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kedge.edge.kubelet.probes import Target

MAX_BODY_BYTES = 10 << 10
MAX_HEAD_BYTES = 16 << 10
MAX_OUTPUT_CHARACTERS = 1024


async def check(
    probe: dict[str, Any], container: dict[str, Any], target: Target, timeout_seconds: float
) -> tuple[bool, str]:
    """Whether one attempt succeeded, and what to show if not."""
    try:
        if "exec" in probe:
            code, output = await target.execute(probe["exec"].get("command") or [], timeout_seconds)
            return code == 0, output[:MAX_OUTPUT_CHARACTERS]
        return await asyncio.wait_for(_network(probe, container, target), timeout_seconds)
    except TimeoutError:
        return False, f"no answer within {timeout_seconds:g} s"
    except (
        OSError,
        ValueError,
        KedgeError,
        asyncio.IncompleteReadError,
        asyncio.LimitOverrunError,
    ) as error:
        return False, str(error)[:MAX_OUTPUT_CHARACTERS]


def _network(
    probe: dict[str, Any], container: dict[str, Any], target: Target
) -> Awaitable[tuple[bool, str]]:
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if kind in probe:
            how = probe[kind]
            host = how.get("host") or target.address()
            port = port_number(container, how["port"])
            if kind == "httpGet" and how.get("scheme", "HTTP") != "HTTPS":
                return http_get(host, port, how)
            return connect(host, port)
    raise ValueError("the probe has no exec, httpGet or tcpSocket")


def port_number(container: dict[str, Any], port: int | str) -> int:
    """A port given by number or by the name of one of the container's ports.

    Raises:
        ValueError: no such port.
    """
    if isinstance(port, int):
        return port
    for one in container.get("ports") or []:
        if one.get("name") == port:
            return int(one["containerPort"])
    if port.isdecimal():
        return int(port)
    raise ValueError(f"container {container['name']} has no port named: {port}")


async def connect(host: str, port: int) -> tuple[bool, str]:
    """Whether the port accepts a connection."""
    _, writer = await asyncio.open_connection(host, port, limit=1024)
    writer.close()
    return True, ""


async def http_get(host: str, port: int, how: dict[str, Any]) -> tuple[bool, str]:
    """Whether a GET answers with 200 to 399."""
    reader, writer = await asyncio.open_connection(host, port, limit=MAX_HEAD_BYTES)
    try:
        writer.write(_request(host, port, how))
        line = (await reader.readuntil(b"\n")).decode("latin-1").split(None, 2)
        if len(line) < 2 or not line[0].startswith("HTTP/") or not line[1].isdecimal():
            raise ValueError(f"not an HTTP answer: {' '.join(line)[:80]}")
        status = int(line[1])
        if 200 <= status < 400:
            return True, ""
        return False, f"HTTP probe failed with statuscode: {status}"
    finally:
        writer.close()


def _request(host: str, port: int, how: dict[str, Any]) -> bytes:
    path = how.get("path") or "/"
    headers = {"Host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}
    headers |= {"User-Agent": "kube-probe/kedge", "Accept": "*/*", "Connection": "close"}
    headers |= {one["name"]: one.get("value", "") for one in how.get("httpHeaders") or []}
    words = [path, *headers, *headers.values()]
    if any("\r" in word or "\n" in word for word in words):
        raise ValueError("a header or the path of the probe has a line break")
    lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
