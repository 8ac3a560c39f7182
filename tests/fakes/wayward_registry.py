# SPDX-License-Identifier: Apache-2.0
"""A registry on 127.0.0.1 (distribution API v2, reading only) that can cut, slow down and refuse.

Images are packed from Debian's static busybox. ``cut_after`` ends the next answers of blobs after so
many bytes, once each; ``ranges`` has the Range headers that were asked with; ``user`` wants Basic
credentials.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.rig import images

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
BLOCK = 64 * 1024


class Registry:
    """A registry with images made by ``add``."""

    def __init__(self, *, user: str = "", password: str = "") -> None:
        self.credentials = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.cut_after: list[int] = []
        self.ranges: list[str] = []
        self.bytes_per_second = 0
        self.served: list[str] = []
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def host(self) -> str:
        """As image references begin."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, tag: str = "1", *, extra_bytes: int = 0) -> str:
        """Makes an image of busybox, and perhaps a layer of noise; its reference."""
        layers = [images._layer()]
        if extra_bytes:
            layers.append(_noise(extra_bytes))
        digests = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
        config = images._config(["sh"], digests[0].removeprefix("sha256:"))
        config["rootfs"] = {"type": "layers", "diff_ids": digests}
        config["author"] = f"{name}:{tag}"
        packed = [gzip.compress(one, 1, mtime=0) for one in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob(json.dumps(config).encode(), CONFIG),
            "layers": [self._blob(one, LAYER) for one in packed],
        }
        body = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.manifests[f"{name}:{tag}"] = self.manifests[f"{name}:{digest}"] = body
        return f"{self.host}/{name}:{tag}"

    def _blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

            def do_HEAD(self) -> None:
                registry._answer(self, has_body=False)

            def do_GET(self) -> None:
                registry._answer(self, has_body=True)

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, *, has_body: bool) -> None:
        given = handler.headers.get("Authorization", "")
        if self.credentials and given != f"Basic {self.credentials}":
            challenge = {"WWW-Authenticate": 'Basic realm="registry"'}
            _send(
                handler, 401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', challenge, has_body=has_body
            )
            return
        parts = handler.path.strip("/").split("/")
        if parts == ["v2"]:
            _send(handler, 200, b"{}", {})
            return
        name, kind, which = "/".join(parts[1:-2]), parts[-2], parts[-1]
        if kind == "manifests":
            found = self.manifests.get(f"{name}:{which}")
            digest = f"sha256:{hashlib.sha256(found).hexdigest()}" if found else ""
            headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": digest}
        else:
            found = self.blobs.get(which)
            headers = {"Content-Type": "application/octet-stream"}
        if found is None:
            missing = b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
            _send(handler, 404, missing, {}, has_body=has_body)
        elif kind == "manifests" or not has_body:
            _send(handler, 200, found, headers, has_body=has_body)
        else:
            self.served.append(which)
            self._send_blob(handler, found, headers)

    def _send_blob(
        self, handler: BaseHTTPRequestHandler, content: bytes, headers: dict[str, str]
    ) -> None:
        asked = handler.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if asked:
            self.ranges.append(asked)
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        rest = content[start:]
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            is_big = len(rest) > BLOCK
            cut = self.cut_after.pop(0) if is_big and self.cut_after else len(rest)
        try:
            handler.send_response(206 if asked else 200)
            for key, value in (headers | {"Content-Length": str(len(rest))}).items():
                handler.send_header(key, value)
            handler.end_headers()
            for at in range(0, min(cut, len(rest)), BLOCK):
                handler.wfile.write(rest[at : min(at + BLOCK, cut)])
                if self.bytes_per_second:
                    time.sleep(BLOCK / self.bytes_per_second)
            if cut < len(rest):
                handler.wfile.flush()
                handler.close_connection = True
                handler.connection.shutdown(2)
        except OSError:
            handler.close_connection = True
        finally:
            with self._lock:
                self.running -= 1


def _send(
    handler: BaseHTTPRequestHandler,
    code: int,
    body: bytes,
    headers: dict[str, str],
    *,
    has_body: bool = True,
) -> None:
    handler.send_response(code)
    for key, value in (headers | {"Content-Length": str(len(body))}).items():
        handler.send_header(key, value)
    handler.end_headers()
    if has_body:
        handler.wfile.write(body)


def _noise(size: int) -> bytes:
    """A layer with one file that does not compress."""
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        images._add(layer, "noise", os.urandom(size))
    return out.getvalue()
