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
from tests.rig.processes import environment, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

POINTS = [one for one in fault_points.names() if one.startswith("reset.")]


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


def test_there_are_points_to_kill_it_at() -> None:
    assert len(POINTS) >= 5
    assert os.geteuid() == 0
