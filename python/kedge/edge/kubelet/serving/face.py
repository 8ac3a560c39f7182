# SPDX-License-Identifier: Apache-2.0
"""The face of the extension's ``KubeletServer``: requests come out, answers go in."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge import _core  # noqa: TID251 - this file is the face of _core.KubeletServer
from kedge.aio import batches
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kedge.runtime import Runtime

_log = logging.getLogger(__name__)
PLAIN = "text/plain; charset=utf-8"


class RequestError(KedgeError):
    """A request that cannot be answered, with its HTTP status."""

    reason = "Refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        method: of HTTP.
        parts: the path's parts, decoded, without empty ones.
        query: parameters, each with its values in order.
        is_upgrade: whether the client wants to stream.
        body: at most 64 KiB; empty when it wants to stream.
    """

    method: str
    parts: tuple[str, ...]
    query: dict[str, list[str]]
    is_upgrade: bool
    body: bytes

    def flag(self, name: str) -> bool:
        """Whether a parameter is set, as the kubelet reads it (``1``, ``true``, ``True``...)."""
        return self.text(name).lower() in {"1", "t", "true"}

    def text(self, name: str) -> str:
        """A parameter's first value; empty when it is not there."""
        return next(iter(self.query.get(name) or [""]))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is here already."""

    body: bytes
    content_type: str = PLAIN
    status: int = 200


@dataclass(frozen=True, slots=True)
class Log:
    """A log that Rust reads: the fields of its ``LogRequest``."""

    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream at the container runtime's streaming server."""

    url: str


@dataclass(frozen=True, slots=True)
class Stats:
    """What pods and containers use, which Rust reads: the fields of its ``World``."""

    world: dict[str, Any]


Reply = Answer | Log | Stream | Stats


class KubeletServer:
    """Serves the tunnels of the link, and a socket on the node.

    Args:
        runtime: the process's tokio runtime.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.handle = _core.KubeletServer(runtime)

    def listen(self, path: Path) -> None:
        """Serves on a socket of the node as well, which root alone may open.

        Raises:
            KedgeError: it cannot be made.
        """
        self.handle.listen(str(path))

    def log_ended(self, container_id: str) -> None:
        """A container has ended: who follows its log gets the rest of it, and its end."""
        self.handle.log_ended(container_id)

    async def run(self, handler: Callable[[Request], Awaitable[Reply]]) -> None:
        """Answers requests until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                async for batch in batches(self.handle):
                    for number, method, path, query, is_upgrade, body in batch:
                        request = Request(
                            method,
                            tuple(urllib.parse.unquote(one) for one in path.split("/") if one),
                            urllib.parse.parse_qs(query, keep_blank_values=True),
                            is_upgrade,
                            body,
                        )
                        group.create_task(self._answer(number, request, handler))
        finally:
            self.handle.close()

    async def _answer(
        self, number: int, request: Request, handler: Callable[[Request], Awaitable[Reply]]
    ) -> None:
        try:
            reply = await handler(request)
        except RequestError as error:
            reply = Answer(f"{error}\n".encode(), status=error.status)
        except KedgeError as error:
            reply = Answer(f"{error}\n".encode(), status=500)
        except Exception:
            _log.exception("%s /%s failed", request.method, "/".join(request.parts))
            reply = Answer(b"the request failed inside the node's agent\n", status=500)
        match reply:
            case Answer():
                self.handle.answer(number, reply.status, reply.content_type, reply.body)
            case Log():
                self.handle.answer_log(number, json.dumps(reply.request))
            case Stream():
                self.handle.answer_stream(number, reply.url)
            case Stats():
                self.handle.answer_stats(number, json.dumps(reply.world))
