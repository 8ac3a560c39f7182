# SPDX-License-Identifier: Apache-2.0
"""The plugins' messages for grpcio, made from the extension's own ``proto/`` files, and small helpers.

Only tests use grpcio; the agent's gRPC is in Rust, so that both ends of a call are different programs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

PROTO = Path(__file__).resolve().parents[2] / "rust" / "kedge-core" / "proto"


def messages(file: str) -> Any:
    """The module of messages of one file."""
    if str(PROTO) not in sys.path:
        sys.path.insert(0, str(PROTO))
    return grpc.protos(file)


def service(name: str, methods: dict[str, tuple[Callable[..., Any], Any, Any]]) -> Any:
    """A service of unary methods: what answers, the request's class, the answer's class."""
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
        for method, (answer, request, response) in methods.items()
    }
    return grpc.method_handlers_generic_handler(name, handlers)


def call(
    channel: Any, path: str, request: Any, response: type, seconds: float = 5.0, **more: Any
) -> Any:
    """Calls a unary method."""
    method = channel.unary_unary(
        path,
        request_serializer=type(request).SerializeToString,
        response_deserializer=response.FromString,
    )
    return method(request, timeout=seconds, **more)


class Control:
    """What the test tells a fake plugin and what that notes: a JSON file and a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._calls = path.with_suffix(".calls")

    def write(self, **settings: Any) -> None:
        """Changes settings, all at once."""
        value = self.read() | settings
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(value))
        temporary.replace(self._path)

    def read(self) -> dict[str, Any]:
        """The settings."""
        try:
            found: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def note(self, method: str, **what: Any) -> None:
        """Notes a call."""
        with self._calls.open("a") as file:
            file.write(json.dumps({"method": method, "at": time.time()} | what) + "\n")

    def calls(self, method: str = "") -> list[dict[str, Any]]:
        """The calls noted, of one method or all."""
        try:
            lines = self._calls.read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [json.loads(line) for line in lines]
        return [one for one in found if not method or one["method"] == method]

    def obey(self, method: str, context: Any) -> None:
        """Fails, hangs or dies where the settings say so."""
        import os

        match self.read().get("faults", {}).get(method):
            case "hang":
                time.sleep(3600)
            case "die":
                os._exit(9)
            case str() as words:
                context.abort(grpc.StatusCode.INTERNAL, words)
