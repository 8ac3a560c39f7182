# SPDX-License-Identifier: Apache-2.0
"""A deleted Node, and one whose name was taken over, at two replicas of the cloud."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from kedge.errors import Disconnected, Rejected
from tests.integration.cloud.conftest import Cloud, ControlPlane, Node, until
from tests.integration.cloud.test_restarts import again

DELETED = "was deleted from the cluster: join it again with a token"
EARLIER = "an earlier Node"
TAKEN = "belongs to another key"


@pytest.fixture(scope="module")
def second(control: ControlPlane, cloud: Cloud) -> Cloud:
    return control.start_cloud("second")


def node_path(name: str) -> str:
    return f"/api/v1/nodes/{name}"


async def delete(control: ControlPlane, name: str) -> None:
    await asyncio.to_thread(control.api.delete, node_path(name))


async def refused(node: Node, cloud: Cloud, why: str) -> None:
    """The node comes to a cloud and is told why it may not; its Node does not come back."""
    async with node.linked(cloud) as client:
        await until(lambda: why in client.status().last_error)
        assert "\n" not in client.status().last_error
        assert not client.status().connected


@pytest.mark.parametrize("held_by", ["first", "second"])
async def test_a_deleted_node_is_cut_off_and_refused_at_every_replica(
    cloud, second, make_node, control, held_by
):
    linked, other = (cloud, second) if held_by == "first" else (second, cloud)
    node = await make_node(f"deleted-{held_by}")
    node.register()
    async with node.linked(linked) as client:
        await client.synced()
        await until(lambda: client.status().waiting == 0)
        await delete(control, node.name)
        await until(lambda: DELETED in client.status().last_error)
        with pytest.raises((Disconnected, Rejected)):
            await client.request("certificate/renew", json.dumps({"csr": "x"}).encode())
        node.register()
    await refused(node, linked, DELETED)
    await refused(node, other, DELETED)
    names = [one["metadata"]["name"] for one in control.api.get("/api/v1/nodes")["items"]]
    assert node.name not in names


async def test_joining_again_lets_the_new_certificate_in_and_not_the_old(
    cloud, second, make_node, control, tmp_path
):
    node = await make_node("again")
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        await until(lambda: client.status().waiting == 0)
    shutil.copytree(node.directory / "pki", tmp_path / "stolen" / "pki")
    await delete(control, node.name)
    await asyncio.to_thread(second.join, node.directory, node.name)
    assert (tmp_path / "stolen/pki/node.key").read_text() == node.pem("node.key")
    stolen = Node(tmp_path / "stolen", node.name, node.runtime, node.store)
    node.register()
    async with node.linked(cloud) as client:
        await client.synced()
        await until(lambda: client.status().waiting == 0)
    found = control.api.get(node_path(node.name))
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == node.name
    for replica in (cloud, second):
        await refused(stolen, replica, EARLIER)


async def test_a_name_that_is_taken_over_is_lost_at_once_at_every_replica(
    cloud, second, make_node, control, tmp_path
):
    node = await make_node("taken-over")
    async with node.linked(cloud) as client:
        await client.synced()
        token = await asyncio.to_thread(control.token, rejoin=True)
        await asyncio.to_thread(second.join, tmp_path / "taker", node.name, token)
        await until(lambda: TAKEN in client.status().last_error)
    await refused(node, second, TAKEN)
    taker = Node(tmp_path / "taker", node.name, node.runtime, node.store)
    async with taker.linked(cloud) as client:
        await client.synced()


async def test_a_refusal_outlives_the_cluster_and_a_cloud_that_lost_its_mirror(
    cloud, make_node, control
):
    fragile = await asyncio.to_thread(control.start_cloud, "fragile-mirror")
    gone, stays = await make_node("gone"), await make_node("stays")
    for node in (gone, stays):
        async with node.linked(fragile) as client:
            await client.synced()
    fragile.process.kill()
    await delete(control, "gone")
    shutil.rmtree(control.directory / "fragile-mirror")
    control.processes[0].kill()
    for process, log in ((control.processes[0], "cluster-2.log"), (fragile.process, "fresh.log")):
        control.processes.append(again(process, control.directory / log))
    control.processes[0] = control.processes[-2]
    await refused(gone, fragile, DELETED)
    async with stays.linked(fragile) as client:
        await asyncio.wait_for(client.synced(), 20)


async def test_a_node_that_connects_before_it_registered_or_with_an_empty_store_is_let_in(
    cloud, second, make_node
):
    node = await make_node("early")
    for replica in (second, cloud):
        async with node.linked(replica) as client:
            await asyncio.wait_for(client.synced(), 20)
