# SPDX-License-Identifier: Apache-2.0
"""A real API server on a loopback port over a store of its own, and a plain client of it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.api.kinds import find
from kedge.cluster.apiserver.server import (
    POLICY,
    Request,
    Response,
    Server,
    ServerConfig,
    StaticToken,
)
from kedge.errors import KedgeError
from kedge.hub import certificates
from kedge.kube.kubeconfig import Cluster
from kedge.runtime import Runtime
from kedge.store import Store, delete, put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kedge.hub.certificates import Pair

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
RESOURCES = [
    ("", "pods", "Pod", True, ["status", "binding"]),
    ("", "configmaps", "ConfigMap", True, []),
    ("", "secrets", "Secret", True, []),
    ("", "serviceaccounts", "ServiceAccount", True, ["token"]),
    ("", "namespaces", "Namespace", False, ["status", "finalize"]),
    ("", "nodes", "Node", False, ["status"]),
    ("apps", "deployments", "Deployment", True, ["status", "scale"]),
]
ROWS = [
    {
        "group": group,
        "version": "v1",
        "kind": name,
        "resource": resource,
        "namespaced": namespaced,
        "verbs": VERBS,
        "subresources": subresources,
        "selectable": kind.selectable,
    }
    for group, resource, name, namespaced, subresources in RESOURCES
    if (kind := find(group, resource)) is not None
]
KINDS = {kind: (group, resource) for group, resource, kind, _, _ in RESOURCES}
TOKEN = "letmein-0123456789"
ISSUER = "https://kedge.test"


@dataclass(frozen=True)
class Keys:
    """What certificates and tokens of a test are made with."""

    authority: Pair
    server: Pair
    admin: Pair
    cloud: Pair
    stranger: Pair
    tokens: str


@pytest.fixture(scope="session")
def keys() -> Keys:
    authority = certificates.create_ca("test", days=1)
    foreign = certificates.create_ca("foreign", days=1)

    def client(of: Pair, name: str, group: str) -> Pair:
        return certificates.issue(of, common_name=name, organizations=[group], days=1, client=True)

    return Keys(
        authority=authority,
        server=certificates.issue(
            authority,
            common_name="kedge",
            dns_names=["localhost"],
            ip_addresses=["127.0.0.1"],
            days=1,
            server=True,
        ),
        admin=client(authority, "admin", "system:masters"),
        cloud=client(authority, "kedge-cloud", "kedge:cloud"),
        stranger=client(foreign, "admin", "system:masters"),
        tokens=certificates.new_key(),
    )


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Api:
    """The server under test, as a client and as its operator see it."""

    store: Store
    server: Server
    runtime: Runtime
    keys: Keys
    directory: Path
    asked: list[Request] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    def put(self, obj: dict[str, Any]) -> int:
        return self.store.commit_now([put(self.key(obj), json.dumps(obj).encode())])[0]

    def delete(self, obj: dict[str, Any]) -> int:
        return self.store.commit_now([delete(self.key(obj))])[0]

    def key(self, obj: dict[str, Any]) -> ObjectKey:
        metadata = obj["metadata"]
        return ObjectKey(*KINDS[obj["kind"]], metadata.get("namespace", ""), metadata["name"])

    def context(self, client: str = "admin") -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.keys.authority.certificate)
        if client:
            pair: Pair = getattr(self.keys, client)
            path = self.directory / f"{client}.pem"
            path.write_text(pair.certificate + pair.key)
            context.load_cert_chain(path)
        return context

    def open(self, client: str = "admin") -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.context(client), timeout=10
        )

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        client: str = "admin",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = self.open(client)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        finally:
            connection.close()

    def get(self, path: str, *, client: str = "admin", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", path, client=client, headers=sent)

    def socket(self, client: str = "admin") -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return self.context(client).wrap_socket(raw, server_hostname="127.0.0.1")

    def cluster(self, client: str = "admin") -> Cluster:
        pair: Pair = getattr(self.keys, client)
        return Cluster(
            server=f"https://127.0.0.1:{self.port}",
            ca=self.keys.authority.certificate,
            certificate=pair.certificate,
            key=pair.key,
        )


class Watched:
    """A watch's lines, read one at a time."""

    def __init__(self, api: Api, path: str, **headers: str) -> None:
        self.connection = api.open()
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()

    def next(self) -> dict[str, Any] | None:
        line = self.response.readline()
        return json.loads(line) if line else None

    def take(self, count: int) -> list[tuple[str, str]]:
        events = [self.next() for _ in range(count)]
        return [
            (event["type"], event["object"]["metadata"].get("name")) for event in events if event
        ]

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime(2)
    yield runtime
    runtime.close()


def serve(
    runtime: Runtime,
    directory: Path,
    keys: Keys,
    *,
    port: int = 0,
    history: int = 10_000,
    store: Store | None = None,
    **limits: float,
) -> Api:
    """A server over the store given, or over one in ``directory``, which is created when absent."""
    if store is None:
        store = Store.open(directory / "store", mode="primary", history=history)
    asked: list[Request] = []

    async def handle(request: Request) -> Response:
        asked.append(request)
        return Response(201, b'{"kind":"Pod"}', headers=[("X-Test", "yes")])

    config = ServerConfig(
        listen=f"127.0.0.1:{port}",
        certificate=keys.server.certificate,
        key=keys.server.key,
        client_ca=keys.authority.certificate,
        service_account_keys=(keys.tokens,),
        issuer=ISSUER,
        tokens=(StaticToken(TOKEN, "robot", ("system:masters",)),),
        resources=ROWS,
        policy=POLICY,
        limits=limits,
    )
    server = _bound(lambda: Server(runtime, store, config, handle))
    return Api(store, server, runtime, keys, directory, asked)


def _bound(start: Callable[[], Server]) -> Server:
    """Starts a server; the port of one that was just closed is free in a moment."""
    for _ in range(100):
        try:
            return start()
        except KedgeError as error:
            if "cannot listen" not in str(error):
                raise
            time.sleep(0.05)
    raise AssertionError("the port stays busy")


@pytest.fixture
def api(runtime: Runtime, tmp_path: Path, keys: Keys) -> Iterator[Api]:
    api = serve(runtime, tmp_path, keys)
    yield api
    api.server.close()
    api.store.close()


def pod(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


def labelled(name: str, **labels: str) -> dict[str, Any]:
    obj = pod(name)
    obj["metadata"]["labels"] = labels
    return obj
