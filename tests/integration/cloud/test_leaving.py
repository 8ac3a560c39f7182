# SPDX-License-Identifier: Apache-2.0
"""A node that leaves for good, at a real hub: its Node, Lease and link go, and nobody else's."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from typing import TYPE_CHECKING, Any

from kedge.ctl import leave
from tests.integration.cloud.conftest import Cloud, ControlPlane, Node, until

if TYPE_CHECKING:
    from pathlib import Path

DELETED = "was deleted from the cluster: join it again with a token"


async def leaves(node: Node, cloud: Cloud, pki: Path | None = None) -> str:
    directory = pki or node.directory / "pki"
    return await asyncio.to_thread(leave.ask, f"127.0.0.1:{cloud.port}", directory)


def names(control: ControlPlane, path: str) -> set[str]:
    return {one["metadata"]["name"] for one in control.api.get(path)["items"]}


async def test_a_node_that_leaves_takes_its_node_lease_and_link_along(
    cloud: Cloud, make_node: Any, control: ControlPlane
) -> None:
    node, other = await make_node("leaves"), await make_node("stays")
    for one in (node, other):
        one.register()
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    async with other.linked(cloud) as stays, node.linked(cloud) as client:
        await client.synced()
        await stays.synced()
        await until(lambda: {"leaves", "stays"} <= names(control, leases))
        assert await leaves(node, cloud) == ""
        assert names(control, "/api/v1/nodes") >= {"stays"}
        assert "leaves" not in names(control, "/api/v1/nodes")
        await until(lambda: DELETED in client.status().last_error)
        assert await leaves(node, cloud) == "", "asked again, it is still gone"
        await until(lambda: "leaves" not in names(control, leases))
        assert stays.status().connected
        assert "stays" in names(control, leases)


async def test_a_machine_that_lost_its_name_deletes_nothing(
    cloud: Cloud, make_node: Any, control: ControlPlane, tmp_path: Path
) -> None:
    node = await make_node("taken")
    shutil.copytree(node.directory / "pki", tmp_path / "old")
    token = await asyncio.to_thread(control.token, rejoin=True)
    shutil.rmtree(node.directory / "pki")
    (node.directory / "edge.yaml").unlink()
    await asyncio.to_thread(cloud.join, node.directory, node.name, token)
    why = await leaves(node, cloud, tmp_path / "old")
    assert "answered 403: node taken: the name belongs to another key" in why
    assert "taken" in names(control, "/api/v1/nodes")
    assert await leaves(node, cloud) == "", "who has the name may"
    assert "taken" not in names(control, "/api/v1/nodes")


async def test_nobody_leaves_without_a_nodes_certificate(
    cloud: Cloud, make_node: Any, control: ControlPlane
) -> None:
    node = await make_node("guarded")
    context = ssl.create_default_context(cadata=node.pem("ca.crt"))
    status, text = await leave._exchange("127.0.0.1", cloud.port, context)
    assert (status, text) == (403, "a node leaves by its own certificate")
    assert "guarded" in names(control, "/api/v1/nodes")
