# SPDX-License-Identifier: Apache-2.0
"""A node that is reset asks its hub to delete its Node, with its own certificate, within a few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from typing import TYPE_CHECKING

from kedge.cloud.authority import SERVER_NAME
from kedge.ctl.failure import Failure
from kedge.ctl.join import parse_address

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 10.0
PATH = "/v1/leave"
MAX_ANSWER_BYTES = 64 * 1024


def ask(cloud: str, pki: Path) -> str:
    """Why the Node was not deleted; empty if it was, or was gone already.

    Args:
        cloud: where the hub is, ``HOST:PORT``.
        pki: the directory of the node's certificate, key and authority.
    """
    try:
        host, port = parse_address(cloud)
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(pki / "node.crt", pki / "node.key")
        status, text = asyncio.run(_exchange(host, port, context))
    except TimeoutError:
        return f"{cloud} did not answer within {SECONDS:g} s"
    except Failure as failure:
        return str(failure)
    except ssl.SSLCertVerificationError as error:
        return f"{cloud} has a certificate of another authority: {error.verify_message}"
    except (OSError, ValueError) as error:
        return f"{cloud} cannot be asked: {error}"
    return "" if status == 200 else f"{cloud} answered {status}: {text}"


async def _exchange(host: str, port: int, context: ssl.SSLContext) -> tuple[int, str]:
    """Status and text of the answer.

    Raises:
        TimeoutError: there was none in time.
        OSError: nobody is there, or not the hub.
        ValueError: it is no answer of a hub.
    """
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname=SERVER_NAME
        )
        try:
            head = f"POST {PATH} HTTP/1.1\r\nhost: {SERVER_NAME}\r\ncontent-length: 0\r\n\r\n"
            writer.write(head.encode())
            answer = b""
            while len(answer) < MAX_ANSWER_BYTES and (part := await reader.read(4096)):
                answer += part
        finally:
            writer.transport.abort()
    return _parsed(answer)


def _parsed(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError(f"wanted an HTTP answer, got: {answer[:40]!r}")
    text = body.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["message"])
    return int(words[1]), " ".join(text.split())[:300]
