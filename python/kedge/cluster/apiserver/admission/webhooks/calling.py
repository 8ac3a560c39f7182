# SPDX-License-Identifier: Apache-2.0
"""How a webhook is reached: one HTTPS request, verified, limited in time and size.

A Service is reached at one of its ready endpoints, under the Service's name: directly where the control plane has a
route to it, else through the link of the pod's node (``tunnel``).
"""

from __future__ import annotations

import asyncio
import base64
import io
import random
import ssl
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.webhooks import tunnel
from kedge.cluster.apiserver.admission.webhooks.review import CallFailed

if TYPE_CHECKING:
    from kedge.cluster.apiserver.admission.webhooks.hooks import Hook
    from kedge.store import Store

Object = dict[str, Any]

MAX_ANSWER = 3 * 1024 * 1024
DIRECT_SECONDS = 1.0
"""How long a pod is tried directly before its node's link is."""
REMEMBERED_SECONDS = 60.0
"""How long a pod that could not be reached directly is not tried so again."""
MAX_REMEMBERED = 1000
_CHUNK = 64 * 1024
_SLICES = ("discovery.k8s.io", "endpointslices")
_SERVICE_NAME = "kubernetes.io/service-name"


class Target(NamedTuple):
    """Where a request goes.

    Attributes:
        host: under which name, also for the certificate.
        port: as the URL says.
        path: with the query.
        address: to connect to.
        at: the port there.
        pod: whose address that is, as namespace and name; none for what is no pod.
    """

    host: str
    port: int
    path: str
    address: str
    at: int
    pod: tuple[str, str] | None = None

    @property
    def authority(self) -> str:
        """``host:port``."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{shown}:{self.port}"

    @property
    def url(self) -> str:
        """For messages."""
        return f"https://{self.authority}{self.path}"


class Caller:
    """Asks webhooks.

    Args:
        store: where Services and their endpoints are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unreachable: dict[tuple[str, int], float] = {}
        self.api: tunnel.ApiServer | None = None
        """Through which pods are reached that no route leads to, once there is one."""

    async def post(self, hook: Hook, body: bytes) -> bytes:
        """Asks a webhook; the body of its answer.

        Raises:
            CallFailed: there is none in time, or it is no success.
        """
        client = hook.spec.get("clientConfig") or {}
        target = find(self._store, client, hook.seconds)
        where = f'failed to call webhook: Post "{target.url}"'
        try:
            async with asyncio.timeout(hook.seconds):
                context = _context(client.get("caBundle") or "")
                answer = await self._exchange(target, context, _request(target, body))
        except TimeoutError:
            raise CallFailed(f"{where}: context deadline exceeded") from None
        except (OSError, ValueError) as error:
            raise CallFailed(f"{where}: {error}") from error
        return _body_of(answer, where)

    async def _exchange(self, target: Target, context: ssl.SSLContext, request: bytes) -> bytes:
        """One request on a connection of its own; all that comes back."""
        if target.pod is None or self.api is None:
            return await _send(*await _connect(target, context), request)
        if not self._is_remembered(target):
            try:
                async with asyncio.timeout(DIRECT_SECONDS):
                    connection = await _connect(target, context)
            except (OSError, TimeoutError):
                self._remember(target)
            else:
                return await _send(*connection, request)
        pod = tunnel.Pod(*target.pod, target.at)
        trust = tunnel.Trust(context, target.host)
        return await tunnel.exchange(self.api, pod, trust, request, MAX_ANSWER)

    def _is_remembered(self, target: Target) -> bool:
        until = self._unreachable.get((target.address, target.at), 0.0)
        return time.monotonic() < until

    def _remember(self, target: Target) -> None:
        if len(self._unreachable) >= MAX_REMEMBERED:
            self._unreachable.clear()
        self._unreachable[target.address, target.at] = time.monotonic() + REMEMBERED_SECONDS


def find(store: Store, client: Object, seconds: int) -> Target:
    """Where a client configuration leads.

    Raises:
        CallFailed: nowhere at present.
    """
    query = f"?timeout={seconds}s"
    if "service" not in client:
        parts = urlsplit(client["url"])
        host, port = parts.hostname or "", parts.port or 443
        return Target(host, port, (parts.path or "/") + query, host, port)
    wanted = client["service"]
    name, namespace, port = wanted["name"], wanted["namespace"], wanted.get("port") or 443
    host, path = f"{name}.{namespace}.svc", (wanted.get("path") or "/") + query
    target = Target(host, port, path, "", 0)
    try:
        address, at, pod = _endpoint(store, namespace, name, port)
    except LookupError as error:
        raise CallFailed(f'failed to call webhook: Post "{target.url}": {error.args[0]}') from None
    return target._replace(address=address, at=at, pod=(namespace, pod) if pod else None)


def _endpoint(store: Store, namespace: str, name: str, port: int) -> tuple[str, int, str]:
    """Address, port and pod of a ready endpoint."""
    found = store.get(ObjectKey("", "services", namespace, name))
    if found is None:
        raise LookupError(f'service "{name}" not found')
    spec = orjson.loads(found.value).get("spec") or {}
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", "")), port, ""
    named = [one.get("name", "") for one in spec.get("ports") or () if one.get("port") == port]
    if not named:
        raise LookupError(f'no service port {port} found for service "{name}"')
    ready: list[tuple[str, int, str]] = []
    labels = f"{_SERVICE_NAME}={name}"
    for row in store.list(*_SLICES, namespace=namespace, labels=labels).items:
        ready += _ready(orjson.loads(row.value), named[0])
    if not ready:
        raise LookupError(f'no endpoints available for service "{name}"')
    return random.choice(ready)  # noqa: S311 - spreads load


def _ready(found: Object, port_name: str) -> list[tuple[str, int, str]]:
    ports = [
        one["port"]
        for one in found.get("ports") or ()
        if (one.get("name") or "") == port_name and one.get("port")
    ]
    return [
        (address, ports[0], _pod_of(one))
        for one in found.get("endpoints") or ()
        if (one.get("conditions") or {}).get("ready") is not False
        for address in (one.get("addresses") or ())[:1]
        if ports
    ]


def _pod_of(endpoint: Object) -> str:
    target = endpoint.get("targetRef") or {}
    return str(target.get("name", "")) if target.get("kind") == "Pod" else ""


@lru_cache(maxsize=32)
def _context(bundle: str) -> ssl.SSLContext:
    """Verifies by a bundle, or as the system does; an OSError or ValueError if it cannot be read."""
    if not bundle:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=base64.b64decode(bundle).decode("ascii"))


def _request(target: Target, body: bytes) -> bytes:
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, */*\r\nUser-Agent: kube-apiserver-admission\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


async def _connect(
    target: Target, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        target.address, target.at, ssl=context, server_hostname=target.host
    )


async def _send(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> bytes:
    try:
        writer.write(request)
        await writer.drain()
        parts, size = [], 0
        while part := await reader.read(_CHUNK):
            size += len(part)
            if size > MAX_ANSWER:
                raise ValueError(f"the answer is larger than {MAX_ANSWER} bytes")
            parts.append(part)
        return b"".join(parts)
    finally:
        writer.transport.abort()


class _Received:
    """What was received, as ``http.client`` wants to read it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def _body_of(answer: bytes, where: str) -> bytes:
    from http.client import HTTPException, HTTPResponse  # noqa: PLC0415 - large, and rarely needed

    response = HTTPResponse(_Received(answer))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except (HTTPException, ValueError, OSError) as error:
        raise CallFailed(f"{where}: {error!r}") from error
    if not 200 <= response.status < 300:
        raise CallFailed(
            "failed to call webhook: the server responded with the status code "
            f"{response.status} but did not return more information"
        )
    return body
