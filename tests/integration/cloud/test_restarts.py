# SPDX-License-Identifier: Apache-2.0
"""The cloud is killed, its mirror scribbled on, the cluster restarted: nodes go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal

from kedge.api.keys import ObjectKey
from kedge.store import put
from tests.integration.cloud.conftest import Cloud, Node, until
from tests.rig.processes import Process, wait_until

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def again(process: Process, log) -> Process:
    """The same program with the same arguments."""
    return Process(process.arguments[1:], log=log)


def pod(name, node):
    volume = {"name": "c", "configMap": {"name": f"map-{name}"}}
    container = {"name": "c", "image": "busybox"}
    spec = {"nodeName": node, "containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def local(node: Node, resource: str, name: str):
    found = node.store.get(ObjectKey("", resource, "default", name))
    return json.loads(found.value) if found else None


async def test_reports_and_changes_survive_a_killed_cloud_with_a_damaged_mirror(control, make_node):
    cloud = await asyncio.to_thread(control.start_cloud, "fragile")
    node: Node = await make_node("survives")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        made = await asyncio.to_thread(control.api.create, PODS, pod("s", "survives"))
        await until(lambda: local(node, "pods", "s"))
        os.kill(cloud.process.pid, signal.SIGKILL)
        cloud.process.kill()
        metadata = {"name": "s", "namespace": "default", "uid": made["metadata"]["uid"]}
        report = {"metadata": metadata, "status": {"phase": "Running"}}
        key = ObjectKey("", "pods/status", "default", "s")
        await node.store.commit([put(key, json.dumps(report).encode())])
        data = {"metadata": {"name": "map-s"}, "data": {"a": "b"}}
        await asyncio.to_thread(control.api.create, MAPS, data)
        mirror = control.directory / "fragile" / "mirror" / "data.mdb"
        content = bytearray(mirror.read_bytes())
        content[:8192] = os.urandom(8192)
        mirror.write_bytes(content)
        process = again(cloud.process, control.directory / "again.log")
        control.processes.append(process)
        Cloud(control, process, cloud.port)
        await until(lambda: control.api.get(f"{PODS}/s")["status"].get("phase") == "Running", 20)
        await until(lambda: local(node, "configmaps", "map-s"), 20)
        assert local(node, "pods", "s")["metadata"]["uid"] == made["metadata"]["uid"]
        await until(lambda: client.status().waiting == 0)
    assert "the mirror is damaged" in process.tail(100)


async def test_a_cluster_that_is_killed_comes_back_under_a_cloud_that_goes_on(
    control, cloud, make_node
):
    node: Node = await make_node("patient")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        await until(lambda: client.status().waiting == 0)
        made = await asyncio.to_thread(control.api.create, PODS, pod("p", "patient"))
        await until(lambda: local(node, "pods", "p"), 20)
        cluster = control.processes[0]
        cluster.kill()
        metadata = {"name": "p", "namespace": "default", "uid": made["metadata"]["uid"]}
        report = {"metadata": metadata, "status": {"phase": "Running"}}
        key = ObjectKey("", "pods/status", "default", "p")
        await node.store.commit([put(key, json.dumps(report).encode())])
        await asyncio.sleep(0.5)
        assert client.status().connected
        assert client.status().waiting == 1
        process = again(cluster, control.directory / "cluster-again.log")
        control.processes.append(process)
        await until(lambda: control.api.get(f"{PODS}/p")["status"].get("phase") == "Running", 20)
        await until(lambda: client.status().waiting == 0)
        data = {"metadata": {"name": "map-p"}, "data": {"a": "b"}}
        await asyncio.to_thread(control.api.create, MAPS, data)
        await until(lambda: local(node, "configmaps", "map-p"), 20)
        wait_until(process.is_running, 1, "the cluster stays")
