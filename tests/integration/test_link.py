# SPDX-License-Identifier: Apache-2.0
"""Hub and node in one process: two real stores, TLS over loopback, the Python faces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from kedge.api.keys import ObjectKey
from kedge.errors import Disconnected, Rejected
from kedge.hub import certificates
from kedge.hub.client import HubClient, read_link_record
from kedge.hub.renewal import CertificateRenewal
from kedge.hub.server import HubServer
from kedge.runtime import Runtime
from kedge.store import Op, Store, delete, put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


def pod_key(name: str) -> ObjectKey:
    return ObjectKey("", "pods", "default", name)


def pod(name: str, node: str, **spec: Any) -> bytes:
    volume = {"name": "c", "configMap": {"name": f"config-{name}"}}
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "7"}
    body = {"nodeName": node, "volumes": [volume], **spec}
    return json.dumps({"metadata": metadata, "spec": body, "status": {"phase": "Pending"}}).encode()


def config_map(name: str, text: str) -> tuple[ObjectKey, bytes]:
    body = {"metadata": {"name": name, "namespace": "default"}, "data": {"k": text}}
    return ObjectKey("", "configmaps", "default", name), json.dumps(body).encode()


def report(name: str, phase: str) -> tuple[ObjectKey, bytes]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    body = {"metadata": metadata, "status": {"phase": phase}}
    return ObjectKey("", "pods/status", "default", name), json.dumps(body).encode()


@dataclass
class Cloud:
    """A hub over its mirror, with all that its authority can make."""

    runtime: Runtime
    ca: certificates.Pair
    mirror: Store
    hub: HubServer
    nodes: dict[str, certificates.Pair] = field(default_factory=dict)

    def node_certificate(self, node: str) -> certificates.Pair:
        """The certificate of a node; the first time, its Node is made."""
        if node not in self.nodes:
            self.nodes[node] = pair = certificates.issue(
                self.ca,
                common_name=f"system:node:{node}",
                organizations=["system:nodes"],
                uris=[f"urn:uuid:uid-{node}"],
                days=1,
                client=True,
            )
            annotations = {"kedge.io/public-key": certificates.ca_hash(pair.certificate)}
            metadata = {"name": node, "uid": f"uid-{node}", "annotations": annotations}
            value = json.dumps({"metadata": metadata}).encode()
            self.mirror.commit_now([put(ObjectKey("", "nodes", "", node), value)])
        return self.nodes[node]

    async def mirror_now(self, *writes: Op) -> None:
        """Writes to the mirror, and waits until the hub's views have it."""
        self.mirror.commit_now(writes)
        pods = len(self.mirror.list("", "pods").items)
        await until(lambda: self.hub.stats()["pods"] == pods)

    def client(self, store: Store, node: str = "edge-1", server: str = "") -> HubClient:
        return HubClient(
            self.runtime,
            store,
            server=server or f"127.0.0.1:{self.hub.port}",
            node=node,
            ca=self.ca.certificate,
            certificate=self.node_certificate(node),
        )

    @contextlib.asynccontextmanager
    async def linked(self, store: Store, node: str = "edge-1") -> AsyncIterator[HubClient]:
        """A client of a node, synced."""
        client = self.client(store, node)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(client.run())
            await client.synced()
            yield client
            running.cancel()

    async def event(self, kind: str) -> tuple[Any, ...]:
        """The next event of a kind; others are dropped."""
        async for batch in self.hub.events():
            for event in batch:
                if event[0] == kind:
                    return event
        raise AssertionError


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime(2)
    yield runtime
    runtime.close()


@pytest.fixture
def cloud(runtime: Runtime, tmp_path: Path) -> Iterator[Cloud]:
    ca = certificates.create_ca("kedge-ca", days=10)
    mirror = Store.open(tmp_path / "mirror", mode="replica", durable=False)
    own = certificates.issue(
        ca, common_name="kedge-hub", dns_names=["kedge-hub"], days=1, server=True
    )
    hub = HubServer(runtime, mirror, listen="127.0.0.1:0", ca=ca.certificate, certificate=own)
    hub.open()
    yield Cloud(runtime, ca, mirror, hub)
    hub.close()
    mirror.close()


@pytest.fixture
def node_store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "node", mode="replica", seal_key=bytes(32))
    yield store
    store.close()


async def until(claim: Callable[[], bool]) -> None:
    while not claim():
        await asyncio.sleep(0.01)


async def test_pods_and_what_they_need_reach_their_node(cloud: Cloud, node_store: Store) -> None:
    await cloud.mirror_now(
        put(*config_map("config-web", "1")),
        put(*config_map("config-other", "1")),
        put(pod_key("web"), pod("web", "edge-1")),
        put(pod_key("other"), pod("other", "edge-2")),
    )
    async with cloud.linked(node_store):
        assert [item.key.name for item in node_store.list("", "pods").items] == ["web"]
        assert [item.key.name for item in node_store.list("", "configmaps").items] == ["config-web"]
        held = node_store.get(pod_key("web"))
        assert held is not None
        assert "status" not in json.loads(held.value)
        cloud.mirror.commit_now([put(*config_map("config-web", "2"))])
        key, changed = config_map("config-web", "2")
        await until(
            lambda: (
                (node_store.get(key) or (b"",))[0]
                == changed.replace(b": ", b":").replace(b", ", b",")
            )
        )
        cloud.mirror.commit_now([delete(pod_key("web"))])
        await until(lambda: not node_store.list("", "pods").items)
        assert node_store.get(key) is None


async def test_a_report_waits_until_the_cloud_has_acknowledged_it(
    cloud: Cloud, node_store: Store
) -> None:
    await cloud.mirror_now(put(pod_key("web"), pod("web", "edge-1")))
    async with cloud.linked(node_store) as client:
        key, value = report("web", "Running")
        node_store.commit_now([put(key, value)])
        _, node, session, seq, *name, got = await cloud.event("report")
        assert (node, tuple(name), got) == ("edge-1", tuple(key), value)
        assert client.status().waiting == 1
        assert read_link_record(node_store)["waiting"] == 1
        cloud.hub.ack(session, [seq])
        await until(lambda: read_link_record(node_store)["waiting"] == 0)
    assert read_link_record(node_store)["state"] in {"connected", "disconnected"}


async def test_a_foreign_report_is_refused_and_logged(
    cloud: Cloud, node_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await cloud.mirror_now(put(pod_key("web"), pod("web", "edge-2")))
    async with cloud.linked(node_store) as client, asyncio.TaskGroup() as group:

        async def pump() -> None:
            async for _ in cloud.hub.events():
                pass

        pumping = group.create_task(pump())
        node_store.commit_now([put(*report("web", "Running"))])
        await until(lambda: "refused node=edge-1 object=pods/status default/web" in caplog.text)
        await until(lambda: client.status().waiting == 0)
        pumping.cancel()
    assert cloud.hub.stats()["refused"] == 1


async def test_requests_are_answered_refused_or_fail_without_a_link(
    cloud: Cloud, node_store: Store
) -> None:
    async with cloud.linked(node_store) as client, asyncio.TaskGroup() as group:

        async def answer() -> None:
            async for batch in cloud.hub.events():
                for event in batch:
                    if event[0] == "request":
                        _, _, session, request, method, body = event
                        status = 200 if method == "echo" else 404
                        cloud.hub.respond(session, request, status, body)

        answering = group.create_task(answer())
        assert await client.request("echo", b"hello") == b"hello"
        with pytest.raises(Rejected, match="404: no"):
            await client.request("what", b"no")
        answering.cancel()
    early = cloud.client(node_store, server="127.0.0.1:1")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(early.run())
        with pytest.raises(Disconnected, match="the link is down"):
            await early.request("echo", b"")
        running.cancel()


async def test_a_certificate_is_renewed_at_half_its_life_without_dropping_the_link(
    cloud: Cloud, node_store: Store, tmp_path: Path
) -> None:
    pair = cloud.node_certificate("edge-1")
    (tmp_path / "node.crt").write_text(pair.certificate)
    (tmp_path / "node.key").write_text(pair.key)

    async def answer() -> None:
        async for batch in cloud.hub.events():
            for event in batch:
                if event[0] == "request":
                    csr = json.loads(event[5])["csr"]
                    signed = certificates.sign_csr(
                        cloud.ca,
                        csr,
                        common_name="system:node:edge-1",
                        organizations=["system:nodes"],
                        days=2,
                    )
                    body = json.dumps({"certificate": signed}).encode()
                    cloud.hub.respond(event[2], event[3], 200, body)

    async with cloud.linked(node_store) as client, asyncio.TaskGroup() as group:
        later = CertificateRenewal(client, tmp_path, clock=lambda: time.time() + 13 * 3600)
        answering, renewing = group.create_task(answer()), group.create_task(later.run())
        await until(lambda: (tmp_path / "node.crt").read_text() != pair.certificate)
        renewed = (tmp_path / "node.crt").read_text()
        assert certificates.same_key(renewed, pair.key)
        assert client.status().connected
        assert cloud.hub.stats()["accepted"] == 1
        answering.cancel()
        renewing.cancel()


async def test_a_hub_whose_mirror_is_not_complete_takes_no_links(
    runtime: Runtime, cloud: Cloud, node_store: Store
) -> None:
    own = certificates.issue(
        cloud.ca, common_name="kedge-hub", dns_names=["kedge-hub"], days=1, server=True
    )
    early = HubServer(
        runtime, cloud.mirror, listen="127.0.0.1:0", ca=cloud.ca.certificate, certificate=own
    )
    client = Cloud(runtime, cloud.ca, cloud.mirror, early).client(node_store)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(client.run())
        await until(lambda: "does not know the cluster's objects yet" in client.status().last_error)
        early.open()
        await client.synced()
        running.cancel()
    early.close()


async def test_a_join_is_answered_by_python(cloud: Cloud) -> None:
    import ssl

    context = ssl.create_default_context(cadata=cloud.ca.certificate)

    async def ask(head: str, body: bytes = b"") -> bytes:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", cloud.hub.port, ssl=context, server_hostname="kedge-hub"
        )
        writer.write(f"{head}\r\nhost: hub\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    assert (await ask("GET /v1/ca HTTP/1.1")).endswith(cloud.ca.certificate.encode())
    assert b"403" in await ask("GET /v1/link HTTP/1.1")
    assert b"404" in await ask("GET /else HTTP/1.1")
    asked = asyncio.create_task(ask("POST /v1/join HTTP/1.1", b"token"))
    _, join, path, body, _peer = await cloud.event("join")
    assert (path, body) == ("/v1/join", b"token")
    cloud.hub.respond_join(join, 201, b"{}")
    assert (await asked).startswith(b"HTTP/1.1 201")


async def test_an_unchanged_view_costs_one_short_exchange_after_a_reconnect(
    cloud: Cloud, node_store: Store
) -> None:
    writes = []
    for number in range(20):
        name = f"web-{number}"
        writes += [put(*config_map(f"config-{name}", "x")), put(pod_key(name), pod(name, "edge-1"))]
    await cloud.mirror_now(*writes)
    async with cloud.linked(node_store):
        pass
    revision, before = node_store.list("", "pods").revision, cloud.hub.stats()
    async with cloud.linked(node_store):
        after = cloud.hub.stats()
    total = sum(after[name] - before[name] for name in ("bytes_in", "bytes_out"))
    assert total < 8000
    assert after["items_out"] == before["items_out"]
    assert all(item.revision <= revision for item in node_store.list("", "pods").items)
