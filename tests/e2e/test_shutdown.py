# SPDX-License-Identifier: Apache-2.0
"""A machine that shuts down: pods end in order, and come back after the boot without a cloud."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.rig.api import is_ready as is_ready_in_api
from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import container, is_ready, pod
from tests.rig.pods import deployment
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

MESSAGE = "Pod was terminated in response to imminent node shutdown."
SLEEP = "exec sleep 1000000"


@pytest.fixture
def node() -> Iterator[EdgeNode]:
    with EdgeNode.temporary() as started:
        yield started


def readiness(node: EdgeNode) -> tuple[str, str]:
    """The node's condition Ready, as it was last reported."""
    conditions = node.reports("nodes/status")[node.name]["status"]["conditions"]
    return next((one["status"], one["message"]) for one in conditions if one["type"] == "Ready")


def test_pods_end_in_order_for_a_shutdown_and_those_that_run_always_come_back(
    node: EdgeNode,
) -> None:
    polite = "trap 'echo bye; exit 0' TERM; while true; do sleep 0.05; done"
    web = pod("web", container(polite), terminationGracePeriodSeconds=10)
    system = pod("system", container(polite), priority=2_000_001_000)
    job = pod("job", container(SLEEP), restartPolicy="Never")
    node.change(web, system, job)
    node.start()
    names = ("web", "system", "job")
    node.wait(lambda: all(is_ready(node, one) for one in names), "all are ready", 40)
    assert node.agent is not None
    os.kill(node.agent.pid, signal.SIGPWR)
    node.wait(lambda: not node.containerd.running_containers(), "nothing runs", 40)
    node.wait(
        lambda: all(node.pods()[one].get("reason") == "Terminated" for one in names), "all say why"
    )
    assert node.agent.is_running()
    node.kill()

    def ended_at(one: dict[str, object]) -> str:
        return node.log(one).splitlines()[-1].split()[0]

    assert ended_at(web) < ended_at(system)
    statuses = {name: one["status"] for name, one in node.reports("pods/status").items()}
    assert {one["message"] for one in statuses.values()} == {MESSAGE}
    assert statuses["job"]["phase"] == "Failed"
    assert statuses["web"]["phase"] == statuses["system"]["phase"] == "Running"
    assert readiness(node) == ("False", "node is shutting down")

    node.containerd.reboot()
    node.start()
    node.wait(lambda: is_ready(node, "web") and is_ready(node, "system"), "both are back", 40)
    assert len(node.containerd.running_containers()) == 2
    assert node.pods()["job"]["reason"] == "Terminated"
    assert "reason" not in node.pods()["web"]
    node.kill()
    assert readiness(node)[0] == "True"


def test_a_plain_stop_of_the_agent_leaves_pods_running(node: EdgeNode) -> None:
    node.change(pod("web", container(SLEEP)))
    node.start()
    node.wait(lambda: is_ready(node, "web"), "it is ready", 30)
    before = node.containerd.running_containers()
    assert node.agent is not None
    assert node.agent.stop() == 0
    assert node.containerd.running_containers() == before


def test_pods_of_controllers_come_back_after_the_boot_without_the_cloud() -> None:
    with System.temporary("shutdown") as system:
        template = deployment("web", 2)
        agents = template["spec"]["template"] | {"metadata": {"labels": {"app": "agent"}}}
        daemon_set = {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "agent", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": agents},
        }
        for path, one in (("deployments", template), ("daemonsets", daemon_set)):
            system.api.create(f"/apis/apps/v1/namespaces/default/{path}", one)
        wait_until(lambda: ready_pods(system) == 3, 60, "three pods are ready")
        before = {one["metadata"]["uid"] for one in system.pods()}
        assert system.edge is not None
        os.kill(system.edge.pid, signal.SIGPWR)
        wait_until(lambda: not system.running_containers(), 40, "nothing runs")
        wait_until(lambda: not node_is_ready(system), 20, "the cloud knows that the node goes")
        wait_until(lambda: reasons(system) == {"Terminated"}, 20, "the cloud knows why")
        system.cut_link()
        system.reboot_node(running=3, seconds=60)
        system.restore_link()
        wait_until(lambda: node_is_ready(system), 60, "the node is ready again")
        wait_until(lambda: ready_pods(system) == 3, 60, "all are ready again")
        assert {one["metadata"]["uid"] for one in system.pods()} == before
        (node,) = system.api.get("/api/v1/nodes")["items"]
        names = {name for one in node["status"]["images"] for name in one["names"]}
        assert "docker.io/library/busybox:latest" in names


def reasons(system: System) -> set[str | None]:
    """What the API says of why pods are as they are."""
    return {one["status"].get("reason") for one in system.pods()}


def ready_pods(system: System) -> int:
    """How many pods of the default namespace are ready."""
    return sum(is_ready_in_api(one) for one in system.pods())


def node_is_ready(system: System) -> bool:
    """Whether the API has the node as ready."""
    return all(is_ready_in_api(one) for one in system.api.get("/api/v1/nodes")["items"])
