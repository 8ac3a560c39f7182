# SPDX-License-Identifier: Apache-2.0
"""What a client cannot make the server hold or wait for; and requests that Python decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from kedge.errors import Conflict
from tests.integration.kubeapi.conftest import Api, Keys, Watched, pod, serve

if TYPE_CHECKING:
    from pathlib import Path

    from kedge.runtime import Runtime

LIMIT = 3 * 1024 * 1024


def exchange(api: Api, sent: bytes) -> bytes:
    """What the server answers to raw bytes until it closes or falls silent."""
    received = b""
    with api.socket() as connection:
        connection.settimeout(5)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(sent)
            while chunk := connection.recv(65536):
                received += chunk
                if b"\r\n\r\n" in received and b"onnection: close" not in received:
                    break
    return received


@pytest.mark.parametrize(
    "head",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
        b"POST /api/v1/namespaces/d/pods HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_malformed_head_is_refused_and_the_server_goes_on(api: Api, head: bytes) -> None:
    answer = exchange(api, head)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer
    assert api.get("/healthz").status == 200


@pytest.mark.parametrize(
    "path",
    ["/api/v1/pods?labelSelector=%zz", "/api/v1/namespaces/a%2Fb/pods", "/api/v1/pods?watch=maybe"],
)
def test_a_malformed_path_or_query_is_a_bad_request(api: Api, path: str) -> None:
    assert api.get(path).status == 400


def test_a_head_over_its_limit_is_refused(api: Api) -> None:
    long = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"
    answer = exchange(api, long)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431"), answer
    many = b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n"
    assert exchange(api, many).startswith(b"HTTP/1.1 431")


def test_a_body_over_its_limit_is_refused_unread(api: Api) -> None:
    head = (
        f"POST /api/v1/namespaces/d/pods HTTP/1.1\r\nHost: a\r\nContent-Length: {LIMIT + 1}\r\n\r\n"
    )
    answer = exchange(api, head.encode())
    assert answer.startswith(b"HTTP/1.1 413"), answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["reason"] == "RequestEntityTooLarge"
    assert api.asked == []


def test_a_chunked_body_is_refused_once_it_is_over_its_limit(api: Api) -> None:
    head = (
        b"POST /api/v1/namespaces/d/pods HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = exchange(api, head + chunk * (LIMIT // 0x10000 + 1))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413"), answer[:100]
    assert api.asked == []


def test_a_truncated_body_reaches_nobody(api: Api) -> None:
    with api.socket() as connection:
        connection.sendall(
            b"POST /api/v1/namespaces/d/pods HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{}"
        )
    assert api.get("/healthz").status == 200
    assert api.asked == []


def test_a_body_that_does_not_come_is_not_waited_for(
    runtime: Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, body_seconds=0.2)
    answer = exchange(
        api, b"POST /api/v1/namespaces/d/pods HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{}"
    )
    assert answer.startswith(b"HTTP/1.1 408"), answer
    api.server.close()
    api.store.close()


def test_a_head_that_does_not_come_is_not_waited_for(
    runtime: Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, head_seconds=0.2)
    answer = exchange(api, b"GET /healthz HTT")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408"), answer
    api.server.close()
    api.store.close()


def test_connections_over_the_limit_wait_for_their_turn(
    runtime: Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, connections=1)
    watch = Watched(api, "/api/v1/pods?watch=1&timeoutSeconds=1")
    watch.response.readline()
    watch.close()
    assert api.get("/healthz").status == 200
    api.server.close()
    api.store.close()


def test_a_kept_connection_serves_many_requests(api: Api) -> None:
    connection = api.open()
    for _ in range(3):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok"
    connection.close()


async def test_python_decides_writes_and_sees_who_asks(api: Api) -> None:
    pump = asyncio.ensure_future(api.server.run())
    answer = await asyncio.to_thread(
        api.request,
        "POST",
        "/api/v1/namespaces/default/pods?dryRun=All",
        json.dumps(pod("a")).encode(),
        headers={"Content-Type": "application/json", "Accept": "application/json"},
    )
    assert (answer.status, answer.headers["x-test"]) == (201, "yes")
    [request] = api.asked
    assert request.method == "POST"
    assert request.path == "/api/v1/namespaces/default/pods"
    assert request[3:9] == ("", "v1", "pods", "default", "", "")
    assert request.query == "dryRun=All"
    assert (request.user, request.groups) == ("admin", ["system:masters", "system:authenticated"])
    assert request.content_type == "application/json"
    assert json.loads(request.body) == pod("a")
    scale = await asyncio.to_thread(api.get, "/apis/apps/v1/namespaces/default/deployments/d/scale")
    assert scale.status == 201
    assert api.asked[1].subresource == "scale"
    pump.cancel()


async def test_a_handlers_refusal_is_a_status_and_its_defect_a_500(api: Api) -> None:
    async def handle(request: object) -> None:
        raise failures.pop()

    failures = [RuntimeError("a defect"), Conflict("changed meanwhile", {"name": "a"})]
    api.server._handle = handle
    pump = asyncio.ensure_future(api.server.run())
    path = "/api/v1/namespaces/default/pods/a"
    conflict = await asyncio.to_thread(api.request, "PUT", path, b"{}")
    assert (conflict.status, conflict.json["reason"]) == (409, "Conflict")
    assert conflict.json["details"] == {"name": "a"}
    defect = await asyncio.to_thread(api.request, "PUT", path, b"{}")
    assert (defect.status, defect.json["reason"]) == (500, "InternalError")
    assert "a defect" not in defect.json["message"]
    pump.cancel()


def test_a_request_that_python_does_not_decide_times_out(
    runtime: Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, answer_seconds=0.2)
    began = time.monotonic()
    answer = api.request("DELETE", "/api/v1/namespaces/default/pods/a")
    assert (answer.status, answer.json["reason"]) == (504, "Timeout")
    assert time.monotonic() - began < 10
    api.server.close()
    api.store.close()


def test_a_full_queue_refuses_with_a_time_to_come_back(
    runtime: Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, queue=0)
    answer = api.request("DELETE", "/api/v1/namespaces/default/pods/a")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.json["reason"] == "TooManyRequests"
    api.server.close()
    api.store.close()


def test_a_watcher_that_does_not_read_is_closed_and_its_place_given_to_another(
    runtime: Runtime, tmp_path: Path, keys: Keys
) -> None:
    api = serve(runtime, tmp_path, keys, watches=1, write_seconds=0.3)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", api.port))
    slow = api.context().wrap_socket(raw, server_hostname="127.0.0.1")
    slow.sendall(b"GET /api/v1/pods?watch=1&resourceVersion=0 HTTP/1.1\r\nHost: a\r\n\r\n")
    slow.recv(1)
    for number in range(120):
        api.put(pod(f"p{number}", filler="x" * 100_000))
    deadline = time.monotonic() + 20
    status = 429
    while status == 429 and time.monotonic() < deadline:
        status = api.get("/api/v1/pods?watch=1&timeoutSeconds=1&labelSelector=none").status
    assert status == 200
    slow.close()
    api.server.close()
    api.store.close()
