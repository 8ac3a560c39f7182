# SPDX-License-Identifier: Apache-2.0
"""A bare client of an API server for tests and benches: requests, and a watch that notes the time.

The standard library only, so that what it measures is the server and not a client library.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a kubeconfig says about one server."""

    host: str
    port: int
    context: ssl.SSLContext

    @classmethod
    def load(cls, kubeconfig: Path) -> Credentials:
        """Reads the current cluster and user, with embedded data only."""
        content = yaml.safe_load(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        user = content["users"][0]["user"]
        url = urllib.parse.urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.TemporaryDirectory() as directory:
            pair = []
            for key in ("client-certificate-data", "client-key-data"):
                path = Path(directory) / key
                path.touch(mode=0o600)
                path.write_bytes(base64.b64decode(user[key]))
                pair.append(str(path))
            context.load_cert_chain(*pair)
        return cls(url.hostname or "127.0.0.1", url.port or 443, context)


class Failed(Exception):
    """An answer outside 2xx."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"{code}: {body[:300]}")
        self.code = code


class Api:
    """Requests over one kept connection; one thread at a time."""

    def __init__(self, kubeconfig: Path) -> None:
        self.credentials = Credentials.load(kubeconfig)
        self._connection: http.client.HTTPSConnection | None = None

    def connect(self) -> http.client.HTTPSConnection:
        """A new connection."""
        where = self.credentials
        return http.client.HTTPSConnection(
            where.host, where.port, context=where.context, timeout=30
        )

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Sends one request; the decoded answer.

        Raises:
            Failed: the server answered with an error.
        """
        data = None if body is None else json.dumps(body)
        for attempt in (1, 2):
            connection = self._connection = self._connection or self.connect()
            try:
                connection.request(method, path, data, {"Content-Type": content_type})
                answer = connection.getresponse()
                text = answer.read().decode()
                break
            except (http.client.HTTPException, OSError):
                self.close()
                if attempt == 2:
                    raise
        if answer.status >= 300:
            raise Failed(answer.status, text)
        return json.loads(text) if text else {}

    def get(self, path: str) -> dict[str, Any]:
        """GET."""
        return self.request("GET", path)

    def create(self, path: str, body: object) -> dict[str, Any]:
        """POST."""
        return self.request("POST", path, body)

    def merge(self, path: str, body: object) -> dict[str, Any]:
        """A merge patch."""
        return self.request("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str, body: object = None) -> dict[str, Any]:
        """DELETE."""
        return self.request("DELETE", path, body)

    def close(self) -> None:
        """Ends the kept connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Watch:
    """A watch in a thread of its own; each event is kept with the time at which it was seen."""

    api: Api
    path: str
    events: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    latest: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._connection = self.api.connect()
        start = self.api.get(self.path)
        for item in start["items"]:
            self.latest[item["metadata"]["name"]] = item
        mark = "&" if "?" in self.path else "?"
        version = start["metadata"]["resourceVersion"]
        self._connection.connect()
        self._connection.sock.settimeout(None)
        self._connection.request(
            "GET", f"{self.path}{mark}watch=true&resourceVersion={version}&timeoutSeconds=3600"
        )
        self._answer = self._connection.getresponse()
        if self._answer.status != 200:
            raise Failed(self._answer.status, self._answer.read().decode())
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while line := self._answer.readline():
                now = time.monotonic()
                event = json.loads(line)
                name = event["object"].get("metadata", {}).get("name", "")
                with self._changed:
                    self.events.append((now, event["type"], event["object"]))
                    if event["type"] == "DELETED":
                        self.latest.pop(name, None)
                    elif event["type"] in {"ADDED", "MODIFIED"}:
                        self.latest[name] = event["object"]
                    self._changed.notify_all()
        except (OSError, ValueError, http.client.HTTPException, AttributeError):
            return

    def wait(self, ready: Callable[[dict[str, dict[str, Any]]], bool], seconds: float) -> float:
        """Blocks until ``ready`` holds for the latest objects by name; the monotonic time it did.

        Raises:
            TimeoutError: it did not hold in time.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not ready(self.latest):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{self.path}: not as wanted after {seconds} s")
                self._changed.wait(left)
        return time.monotonic()

    def close(self) -> None:
        """Ends the watch."""
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(2)
        self._thread.join(5)
        self._connection.close()


def is_ready(thing: dict[str, Any]) -> bool:
    """Whether a Pod or Node has the condition Ready=True."""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def ready_at(watch: Watch, names: set[str]) -> dict[str, float]:
    """When each named object was first seen Ready, monotonic seconds."""
    seen: dict[str, float] = {}
    for moment, kind, thing in list(watch.events):
        name = thing.get("metadata", {}).get("name", "")
        if kind != "DELETED" and name in names and name not in seen and is_ready(thing):
            seen[name] = moment
    return seen
