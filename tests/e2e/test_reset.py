# SPDX-License-Identifier: Apache-2.0
"""``kedge reset`` on a node with pods: all of it goes and nothing else, also when it is interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig import fault_points, local, runtime_view
from tests.rig.containerd import Containerd
from tests.rig.edge import EdgeNode
from tests.rig.images import IMAGE
from tests.rig.mounts import mounts_below, unmount_below
from tests.rig.pods import pod as plain_pod
from tests.rig.processes import environment, wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LEFT = "reset.node.left"
"""Where the hub has done its part: only a node with a cloud gets there."""
POINTS = [one for one in fault_points.names() if one.startswith("reset.") and one != LEFT]


@pytest.fixture
def node(containerd: Containerd) -> Iterator[EdgeNode]:
    directory = Path(tempfile.mkdtemp(prefix="kedge-reset-"))
    name = f"node-{directory.name[-8:].replace('_', '-').lower()}"
    with EdgeNode(directory, name=name, containerd=containerd) as started:
        (started.data / "pki").mkdir()
        (started.data / "pki" / "node.key").write_text("a key")
        yield started
    unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)


def pod(node: EdgeNode, number: int, uid: str = "") -> dict[str, Any]:
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("settings", "fast", "host")]
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "sh",
            "-c",
            "trap 'echo bye >> /host/ended; exit 0' TERM; sleep 1000000 & wait",
        ],
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "1m"}},
    }
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "fast", "emptyDir": {"medium": "Memory"}},
        {"name": "host", "hostPath": {"path": str(node.directory / "host")}},
    ]
    metadata = {"name": f"pod-{number}", "namespace": "default"}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata | {"uid": uid or f"{node.name}-{number}"},
        "spec": {"containers": [container], "volumes": volumes, "nodeName": node.name},
    }


def kedge(*words: str, armed: tuple[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    module = ["-m", "tests.rig.faulty_kedge", *armed] if armed else ["-m", "kedge.ctl"]
    return subprocess.run(
        [sys.executable, *module, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment(),
    )


def run_pods(node: EdgeNode, count: int = 2) -> set[str]:
    """Runs pods; their UIDs."""
    settings = {"name": "settings", "namespace": "default"}
    pods = [pod(node, number) for number in range(count)]
    node.change({"kind": "ConfigMap", "metadata": settings, "data": {"a": "b"}}, *pods)
    (node.directory / "host").mkdir(exist_ok=True)
    (node.logs / "default_other_a-uid").mkdir(parents=True, exist_ok=True)
    node.start()

    def ready() -> bool:
        found = local.statuses(node.data).values()
        return len(found) == count and all(
            one["type"] != "Ready" or one["status"] == "True"
            for status in found
            for one in status["conditions"]
        )

    node.wait(ready, "the pods are ready", 40)
    return {one["metadata"]["uid"] for one in pods}


def mine(node: EdgeNode) -> list[str]:
    found = [
        (one, node.containerd.labels(one).get("io.kubernetes.pod.uid", ""))
        for one in node.containerd.all_containers()
    ]
    return [one for one, uid in found if uid.startswith(node.name)]


def nothing_left(node: EdgeNode, uids: set[str]) -> None:
    assert mine(node) == []
    assert not node.data.exists()
    assert mounts_below(node.data) == []
    assert runtime_view.left_on_machine(node.directory, uids) == []
    assert [one.name for one in node.logs.iterdir()] == ["default_other_a-uid"]


def test_a_node_is_removed_and_containers_of_others_stay(node: EdgeNode) -> None:
    other = EdgeNode(node.directory / "b", name=f"{node.name}-b", containerd=node.containerd)
    with other:
        settings = {"name": "settings", "namespace": "default"}
        stranger = pod(node, 9, uid="somebody-elses-pod")
        other.change({"kind": "ConfigMap", "metadata": settings, "data": {"a": "b"}}, stranger)
        (node.directory / "host").mkdir(exist_ok=True)
        other.start()
        other.wait(lambda: len(local.statuses(other.data)) == 1, "another node's pod", 20)
        uids = run_pods(node)
        other.wait(
            lambda: any(
                one["type"] == "Ready" and one["status"] == "True"
                for status in local.statuses(other.data).values()
                for one in status["conditions"]
            ),
            "another node's pod is ready",
            20,
        )
        images = node.containerd.ctr("images", "list", "-q")
        theirs = set(node.containerd.running_tasks()) - set(mine(node))
        assert len(theirs) >= 2

        refused = kedge("reset", "--dir", str(node.data), "--yes")
        assert refused.returncode == 1
        assert "[AgentRunning]" in refused.stderr
        assert "--stop-agent" in refused.stderr
        rehearsed = kedge("reset", "--dir", str(node.data), "--dry-run")
        assert rehearsed.returncode == 0, rehearsed.stderr
        assert "default/pod-0" in rehearsed.stdout
        assert len(local.statuses(node.data)) == 2
        unasked = kedge("reset", "--dir", str(node.data), "--stop-agent")
        assert "[NotConfirmed]" in unasked.stderr

        done = kedge("reset", "--dir", str(node.data), "--yes", "--stop-agent")
        assert done.returncode == 0, done.stderr
        assert f"kubectl delete node {node.name}" in done.stdout
        assert not node.agent.is_running()
        nothing_left(node, uids)
        assert (node.directory / "host" / "ended").read_text() == "bye\nbye\n"
        assert set(node.containerd.running_tasks()) >= theirs
        assert node.containerd.ctr("images", "list", "-q") == images
        again = kedge("reset", "--dir", str(node.data), "--yes")
        assert "[NoNode]" in again.stderr
        other.kill()
        kedge("reset", "--dir", str(other.data), "--yes")
        assert set(node.containerd.running_tasks()).isdisjoint(theirs)


@pytest.mark.parametrize("point", POINTS)
def test_a_reset_that_is_killed_at_any_step_is_gone_on_with(node: EdgeNode, point: str) -> None:
    uids = run_pods(node)
    node.kill()
    note = str(node.directory / "note")
    killed = kedge("reset", "--dir", str(node.data), "--yes", armed=(point, note))
    assert killed.returncode < 0, (killed.stdout, killed.stderr)
    if (node.data / "edge.yaml").exists():
        node.start()
        agent = node.agent
        wait_until(lambda: not agent.is_running(), 20, "the agent refuses to start")
        assert agent.stop() == 78
        assert "kedge reset" in node.agent.tail()
    done = kedge("reset", "--dir", str(node.data))
    assert done.returncode == 0, done.stderr
    nothing_left(node, uids)


@pytest.fixture
def system() -> Iterator[System]:
    with System.temporary("leaves") as one:
        yield one


def nodes(system: System) -> list[str]:
    return [one["metadata"]["name"] for one in system.api.get("/api/v1/nodes")["items"]]


def test_a_node_takes_its_node_in_the_cluster_along_also_when_it_is_killed_then(
    system: System,
) -> None:
    system.api.create("/api/v1/namespaces/default/pods", plain_pod("mine", node=system.node_name))
    wait_until(lambda: len(system.running_containers()) == 1, 30, "a pod runs")
    words = ["reset", "--dir", str(system.edge_dir), "--yes", "--stop-agent"]
    rehearsed = kedge(*words, "--dry-run")
    assert f"to delete Node {system.node_name}" in rehearsed.stdout
    assert nodes(system) == [system.node_name]
    killed = kedge(*words, armed=(LEFT, str(system.directory / "note")))
    assert killed.returncode < 0, (killed.stdout, killed.stderr)
    assert system.edge is not None
    assert system.edge.stop() == 0, "the agent was told to stop"
    assert nodes(system) == []
    assert system.running_containers() == []
    done = kedge(*words)
    assert done.returncode == 0, done.stderr
    assert f"in the cluster, Node {system.node_name} is deleted" in done.stdout
    assert "kubectl" not in done.stdout
    assert not system.edge_dir.exists()
    # The same machine again, and this time its Node is to stay, for one that comes after it.
    system.join()
    system.start_edge()
    system.wait_node_ready()
    kept = kedge(*words, "--keep-node")
    assert f"kubectl delete node {system.node_name}" in kept.stdout
    assert nodes(system) == [system.node_name]
    # And once more, with the cloud out of reach.
    system.api.delete(f"/api/v1/nodes/{system.node_name}")
    system.join()
    system.cut_link()
    away = kedge(*words)
    assert away.returncode == 0, away.stderr
    assert "the cluster did not delete its Node: 127.0.0.1:" in away.stdout
    assert f"kubectl delete node {system.node_name}" in away.stdout
    assert not system.edge_dir.exists()


def test_there_are_points_to_kill_it_at() -> None:
    assert len(POINTS) >= 5
    assert os.geteuid() == 0
