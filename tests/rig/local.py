# SPDX-License-Identifier: Apache-2.0
"""Asks an agent through the socket in its directory."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        # The path of a socket may have 107 bytes: through a descriptor it is short.
        directory = os.open(self._path.parent, os.O_PATH)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        except OSError:
            self.sock.close()
            raise
        finally:
            os.close(directory)


def ask(data: Path, path: str, *, method: str = "GET", seconds: float = 5) -> tuple[int, bytes]:
    """Status and body of one request.

    Raises:
        OSError: nobody answers there.
    """
    connection = _Connection(data / "agent.sock", seconds)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def statuses(data: Path) -> dict[str, dict[str, Any]]:
    """The status of each pod as the agent has it now, by UID; empty while no agent answers."""
    try:
        status, body = ask(data, "/pods")
    except (OSError, http.client.HTTPException):
        return {}
    if status != 200:
        return {}
    return {one["metadata"]["uid"]: one["status"] for one in json.loads(body)["items"]}
