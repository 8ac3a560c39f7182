# SPDX-License-Identifier: Apache-2.0
"""A webhook server: real HTTPS on this machine, with verdicts that a test decides."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from kedge.hub import certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Object = dict[str, Any]


class WebhookServer:
    """What it was asked, and how it answers.

    Attributes:
        ca: the authority of its certificate, as a caBundle.
        port: where it listens, on 127.0.0.1.
        asked: the requests of all AdmissionReviews, in order; with ``path`` and ``apiVersion``.
        answer: makes the ``response`` of a request; what it lacks is filled in.
        raw: if set, what is sent instead of an AdmissionReview.
        status: of the HTTP answer.
        pause: how long an answer takes.
    """

    def __init__(self, ca: str, port: int) -> None:
        self.ca = base64.b64encode(ca.encode()).decode()
        self.port = port
        self.asked: list[Object] = []
        self.answer: Callable[[Object], Object] = lambda _: {}
        self.raw: bytes | None = None
        self.status = 200
        self.pause = 0.0

    def client(self, path: str = "/check") -> Object:
        """A clientConfig that leads here."""
        return {"url": f"https://localhost:{self.port}{path}", "caBundle": self.ca}

    def handle(self, path: str, body: bytes) -> bytes:
        review = json.loads(body)
        request = {**review["request"], "path": path, "apiVersion": review["apiVersion"]}
        self.asked.append(request)
        time.sleep(self.pause)
        if self.raw is not None:
            return self.raw
        response = {"uid": request["uid"], "allowed": True, **self.answer(request)}
        if isinstance(response.get("patch"), list):
            text = json.dumps(response["patch"]).encode()
            response |= {"patch": base64.b64encode(text).decode(), "patchType": "JSONPatch"}
        answer = {"apiVersion": review["apiVersion"], "kind": "AdmissionReview"}
        return json.dumps({**answer, "response": response}).encode()


@contextmanager
def webhook_server(
    directory: Path, names: tuple[str, ...] = ("localhost",)
) -> Iterator[WebhookServer]:
    """A server that runs until the end of the block."""
    ca = certificates.create_ca("webhooks", days=1)
    own = certificates.issue(ca, common_name=names[0], dns_names=names, server=True, days=1)
    (directory / "hook.crt").write_text(own.certificate)
    (directory / "hook.key").write_text(own.key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = made.handle(self.path, body)
            self.send_response(made.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "hook.crt", directory / "hook.key")

    class Server(ThreadingHTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            """Handshakes in the connection's own thread; a client may go away at any time."""
            try:
                with context.wrap_socket(request, server_side=True) as secure:
                    Handler(secure, client_address, self)
            except OSError:
                return

    server = Server(("127.0.0.1", 0), Handler)
    made = WebhookServer(ca.certificate, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
