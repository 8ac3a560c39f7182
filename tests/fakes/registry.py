# SPDX-License-Identifier: Apache-2.0
"""An image registry of a few lines: the OCI distribution API, read-only, plain HTTP on 127.0.0.1.

It serves busybox under every name and tag, so that a test can pull an image that nobody has pulled
before. Names that begin with ``absent`` are not there.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.rig.images import _config, _layer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Serves until ``stop``."""

    def __init__(self) -> None:
        layer = _layer()
        packed = gzip.compress(layer, compresslevel=1, mtime=0)
        config = json.dumps(_config(["sh"], hashlib.sha256(layer).hexdigest())).encode()
        self.blobs = {_digest(one): one for one in (packed, config)}
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _entry("application/vnd.docker.container.image.v1+json", config),
                "layers": [_entry("application/vnd.docker.image.rootfs.diff.tar.gzip", packed)],
            }
        ).encode()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.answer(self)

            def do_HEAD(self) -> None:
                registry.answer(self)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        """Where it is, as in an image reference."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        parts = asked.path.split("?", 1)[0].strip("/").split("/")
        kind = parts[-2] if len(parts) > 3 else ""
        body, content_type = b"{}", "application/json"
        status = 200 if parts == ["v2"] else 404
        if kind == "manifests" and not parts[1].startswith("absent"):
            status, body, content_type = 200, self.manifest, MANIFEST
        elif kind == "blobs" and parts[-1] in self.blobs:
            status, body, content_type = 200, self.blobs[parts[-1]], "application/octet-stream"
        asked.send_response(status)
        asked.send_header("Content-Type", content_type)
        asked.send_header("Content-Length", str(len(body)))
        if kind == "manifests" and status == 200:
            asked.send_header("Docker-Content-Digest", _digest(body))
        asked.end_headers()
        if asked.command != "HEAD":
            asked.wfile.write(body)

    def stop(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _entry(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(content), "digest": _digest(content)}
