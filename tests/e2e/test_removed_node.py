# SPDX-License-Identifier: Apache-2.0
"""A node is removed as docs/guides/removing-a-node.md says, and let in again by a token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.pods import pod
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("removed") as one:
        yield one


def link(system: System) -> dict[str, Any]:
    found: dict[str, Any] = system.status()["link"]
    return found


def nodes(system: System) -> list[str]:
    return system.kubectl("get", "nodes", "-o", "name").split()


def test_a_node_that_is_drained_and_deleted_is_out_until_it_joins_again(system: System) -> None:
    system.api.create(PODS, pod("drained", node=system.node_name))
    wait_until(lambda: len(system.running_containers()) == 1, 30, "a pod runs")
    system.kubectl("drain", system.node_name, "--force", "--ignore-daemonsets")
    wait_until(lambda: not system.running_containers(), 30, "the pod is gone")
    system.kubectl("delete", "node", system.node_name)
    wait_until(lambda: link(system)["state"] == "connecting", 30, "the link is cut")
    assert system.edge is not None
    wait_until(
        lambda: "join it again with a token" in link(system)["lastError"], 30, "it says what to do"
    )
    assert "was deleted from the cluster" in system.edge.tail()
    system.edge.stop()
    system.start_edge()
    wait_until(lambda: "403: node" in link(system)["lastError"], 30, "it stays out")
    assert nodes(system) == []
    system.edge.stop()
    system.join()
    system.start_edge()
    system.wait_node_ready()
    assert nodes(system) == [f"node/{system.node_name}"]
    system.api.create(PODS, pod("afterwards", node=system.node_name))
    wait_until(lambda: len(system.running_containers()) == 1, 30, "a pod runs again")
