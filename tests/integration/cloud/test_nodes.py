# SPDX-License-Identifier: Apache-2.0
"""Nodes of a real cloud beside a real cluster: what goes down, what comes up, what is refused."""

from __future__ import annotations

import asyncio
import json

import pytest

from kedge.api.keys import ObjectKey
from kedge.cloud import names
from kedge.hub import certificates
from tests.integration.cloud.conftest import until

PODS = "/api/v1/namespaces/default/pods"


def pod(name, node):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "busybox"}]},
    }


def local(node, resource, name):
    found = node.store.get(ObjectKey("", resource, "default", name))
    return json.loads(found.value) if found else None


async def test_a_node_registers_is_ready_and_its_lease_lives(cloud, make_node, control):
    node = await make_node("registers")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        found = await until(
            lambda: (
                (it := control.api.get("/api/v1/nodes/registers"))["status"].get("conditions")
                and it
            )
        )
        lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/registers"
        first = (await until(lambda: control.api.get(lease)))["spec"]
        await until(lambda: client.status().waiting == 0)
    assert names.EDGE_LABELS.items() <= found["metadata"]["labels"].items()
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == "registers"
    ready = [one for one in found["status"]["conditions"] if one["type"] == "Ready"]
    assert [one["status"] for one in ready] == ["True"]
    assert first["holderIdentity"] == "registers"


async def test_twenty_pods_get_their_tokens_and_report_their_status(cloud, make_node, control):
    node = await make_node("runs")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        pods = [
            await asyncio.to_thread(control.api.create, PODS, pod(f"runs-{number}", "runs"))
            for number in range(20)
        ]
        await until(lambda: len(node.store.list("kedge.io", "serviceaccounttokens").items) == 20)
        for one in pods:
            name, uid = one["metadata"]["name"], one["metadata"]["uid"]
            status = {"phase": "Running", "podIPs": [{"ip": "10.1.0.1"}], "podIP": "10.1.0.1"}
            metadata = {"name": name, "namespace": "default", "uid": uid}
            report = {"metadata": metadata, "status": status}
            node.report("pods/status", report, namespace="default", name=name)
        await until(
            lambda: all(
                one["status"].get("phase") == "Running"
                for one in control.api.get(PODS)["items"]
                if one["metadata"]["name"].startswith("runs-")
            )
        )
        await until(lambda: client.status().waiting == 0)
        first = control.api.get(f"{PODS}/runs-0")
        assert first["status"]["podIPs"] == [{"ip": "10.1.0.1"}]
        token = json.loads(node.store.list("kedge.io", "serviceaccounttokens").items[0].value)
        assert token["status"]["token"].count(".") == 2


async def test_a_deleted_pod_is_gone_when_its_node_says_so(cloud, make_node, control):
    node = await make_node("deletes")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        made = await asyncio.to_thread(control.api.create, PODS, pod("deletes-0", "deletes"))
        await until(lambda: local(node, "pods", "deletes-0"))
        await asyncio.to_thread(control.api.delete, f"{PODS}/deletes-0")
        await until(lambda: local(node, "pods", "deletes-0")["metadata"].get("deletionTimestamp"))
        metadata = {"name": "deletes-0", "namespace": "default", "uid": made["metadata"]["uid"]}
        node.report("pods/deleted", {"metadata": metadata}, namespace="default", name="deletes-0")
        await until(lambda: local(node, "pods", "deletes-0") is None)
        await until(lambda: not node.store.list("kedge.io", "serviceaccounttokens").items)
        await until(lambda: client.status().waiting == 0)


async def test_a_report_on_another_nodes_pod_is_refused_and_logged(cloud, make_node, control):
    node = await make_node("forges")
    node.register()
    await asyncio.to_thread(control.api.create, PODS, pod("foreign", "somebody-else"))
    made = control.api.get(f"{PODS}/foreign")
    async with node.linked(cloud) as client:
        await client.synced()
        metadata = {"name": "foreign", "namespace": "default", "uid": made["metadata"]["uid"]}
        report = {"metadata": metadata, "status": {"phase": "Failed"}}
        node.report("pods/status", report, namespace="default", name="foreign")
        await until(lambda: "refused node=forges" in cloud.process.tail(100))
    assert control.api.get(f"{PODS}/foreign")["status"].get("phase") != "Failed"


async def test_a_certificate_is_renewed_over_the_link_without_ending_it(cloud, make_node, control):
    node = await make_node("renews")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        request = certificates.make_csr("anything")
        body = json.dumps({"csr": request.certificate}).encode()
        answer = json.loads(await client.request("certificate/renew", body))
        certificates.check(answer["certificate"], node.pem("ca.crt"))
        details = certificates.inspect(answer["certificate"])
        assert details.common_name == "system:node:renews"
        client.set_certificate(certificates.Pair(answer["certificate"], request.key))
        assert client.status().connected
    pinned = control.api.get("/api/v1/nodes/renews")["metadata"]["annotations"][names.PIN]
    assert pinned == certificates.csr_key_hash(request.certificate)


async def test_a_key_that_lost_its_name_is_not_let_in(cloud, make_node, control, tmp_path):
    node = await make_node("loses")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        await until(lambda: client.status().waiting == 0)
    token = await asyncio.to_thread(control.token, rejoin=True)
    await asyncio.to_thread(cloud.join, tmp_path / "thief", "loses", token)
    async with node.linked(cloud) as client:
        await until(lambda: "another key" in client.status().last_error)


async def test_another_replica_takes_over_with_nothing_but_the_api(
    cloud, make_node, control, tmp_path
):
    node = await make_node("moves")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        await asyncio.to_thread(control.api.create, PODS, pod("moves-0", "moves"))
        await until(lambda: node.store.list("kedge.io", "serviceaccounttokens").items)
    second = await asyncio.to_thread(control.start_cloud, "second")
    made = control.api.get(f"{PODS}/moves-0")
    metadata = {"name": "moves-0", "namespace": "default", "uid": made["metadata"]["uid"]}
    report = {"metadata": metadata, "status": {"phase": "Running"}}
    node.report("pods/status", report, namespace="default", name="moves-0")
    async with node.linked(second) as client:
        await client.synced()
        await until(lambda: control.api.get(f"{PODS}/moves-0")["status"]["phase"] == "Running")
        await until(lambda: client.status().waiting == 0)
        assert local(node, "pods", "moves-0")
    token = await asyncio.to_thread(control.token)
    await asyncio.to_thread(second.join, tmp_path / "third", "joins-second", token)
    with pytest.raises(Exception, match="belongs to a node with another key"):
        await asyncio.to_thread(cloud.join, tmp_path / "fourth", "joins-second", token)
