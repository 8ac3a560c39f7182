# SPDX-License-Identifier: Apache-2.0
"""ReplicationControllers over a store and a registry."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.control_plane import MERGE, ControlPlane, key


@pytest.fixture
async def nodes(plane: ControlPlane) -> ControlPlane:
    await plane.node("n1")
    await plane.node("n2")
    return plane


async def replication_controller(plane: ControlPlane, replicas: int) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "rc", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "template": {
                "metadata": {"labels": {"app": "rc"}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
        },
    }
    await plane.registry.create(key("replicationcontrollers", "rc"), body)


async def test_a_replication_controller_keeps_its_number_of_pods(nodes: ControlPlane):
    await replication_controller(nodes, 3)
    await nodes.until(lambda: len(nodes.ready()) == 3)
    stored = nodes.get("replicationcontrollers", "rc") or {}
    assert stored["spec"]["selector"] == stored["metadata"]["labels"] == {"app": "rc"}
    owner = nodes.all("pods")[0]["metadata"]["ownerReferences"][0]
    assert (owner["apiVersion"], owner["kind"]) == ("v1", "ReplicationController")
    await nodes.registry.scale(key("replicationcontrollers", "rc"), lambda _: 1)

    def status() -> dict[str, Any]:
        return (nodes.get("replicationcontrollers", "rc") or {}).get("status") or {}

    await nodes.until(lambda: len(nodes.all("pods")) == 1 and status()["availableReplicas"] == 1)
    assert status()["observedGeneration"] == 2
    (pod,) = nodes.all("pods")
    name = pod["metadata"]["name"]
    await nodes.registry.patch(key("pods", name), {"metadata": {"labels": {"app": "x"}}}, MERGE)
    await nodes.until(lambda: len(nodes.ready()) == 2)
    assert "ownerReferences" not in (nodes.get("pods", name) or {})["metadata"]
    await nodes.registry.patch(key("pods", name), {"metadata": {"labels": {"app": "rc"}}}, MERGE)
    await nodes.until(lambda: len(nodes.all("pods")) == 1)
    await nodes.registry.delete(key("replicationcontrollers", "rc"))
    await nodes.until(lambda: not nodes.all("pods"))
