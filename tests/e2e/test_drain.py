# SPDX-License-Identifier: Apache-2.0
"""A node is drained, deleted, reset and let in again with the very commands of the guide."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.rig import local
from tests.rig.mounts import mounts_below
from tests.rig.pods import deployment, pod
from tests.rig.processes import REPOSITORY, environment, wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

GUIDE = REPOSITORY / "docs" / "guides" / "removing-a-node.md"
DAEMON_SETS = "/apis/apps/v1/namespaces/default/daemonsets"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System.temporary("drain") as one:
        yield one


def commands(heading: str) -> list[str]:
    """The commands in the guide's blocks under a heading."""
    _, _, rest = GUIDE.read_text().partition(f"## {heading}\n")
    section = rest.partition("\n## ")[0]
    assert section, f"no such heading: {heading}"
    blocks = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("kubectl ", "kedge "))]


def run(system: System, command: str, **values: str) -> str:
    """Runs a command of the guide, its capital words filled in."""
    assert system.proxy is not None
    known = {
        "NODE": system.node_name,
        "DIR": str(system.edge_dir),
        "HOST:10000": f"127.0.0.1:{system.proxy.port}",
        **values,
    }
    words = [known.get(word, word) for word in command.split()]
    if words[0] == "kedge":
        words = [sys.executable, "-m", "kedge.ctl", *words[1:]]
        if "join" in words:
            words += ["--runtime-endpoint", system.containerd.endpoint]
    env = environment() | {"KUBECONFIG": str(system.kubeconfig), "PATH": os.environ["PATH"]}
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False, env=env)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def daemon_set(name: str) -> dict[str, object]:
    template = deployment(name, 1)
    del template["spec"]["replicas"]
    return template | {"kind": "DaemonSet"}


def test_the_guide_removes_a_node_and_lets_it_in_again(system: System) -> None:
    web = deployment("web", 2)
    spec = web["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "work", "emptyDir": {"medium": "Memory"}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "work", "mountPath": "/work"}]
    system.api.create("/apis/apps/v1/namespaces/default/deployments", web)
    system.api.create(DAEMON_SETS, daemon_set("every"))
    wait_until(lambda: len(system.running_containers()) == 3, 60, "three pods run")

    drain, delete, reset = commands("A node that you can reach")
    assert drain.startswith("kubectl drain NODE --ignore-daemonsets --delete-emptydir-data")
    assert "evicted" in run(system, drain)
    wait_until(lambda: len(system.running_containers()) == 1, 40, "the DaemonSet's pod is left")
    assert [one["metadata"]["labels"]["app"] for one in on_node(system)] == ["every"]
    run(system, delete)
    wait_until(lambda: on_node(system) == [], 90, "the cloud has forgotten its pods")
    assert system.edge is not None
    wait_until(lambda: "was deleted from the cluster" in system.edge.tail(), 30, "it is told so")
    # Nothing on the node ends for that: a Node that was deleted by mistake must not stop a machine.
    assert len(system.running_containers()) == 1
    assert local.ask(system.edge_dir, "/healthz") == (200, b"ok")
    run(system, reset)
    assert not system.edge.is_running()
    assert system.containerd.all_containers() == []
    assert not system.edge_dir.exists()
    assert mounts_below(system.directory / "edge") == []

    create, join = commands("Letting a node in again")
    token = run(system, create).strip()
    run(system, join, TOKEN=token)
    system.start_edge()
    system.wait_node_ready()
    wait_until(lambda: len(system.running_containers()) == 3, 60, "all run there again")
    names = {one["metadata"]["labels"]["app"] for one in on_node(system)}
    assert names == {"web", "every"}


def test_a_node_that_joins_again_ends_what_is_not_its_own_any_more(system: System) -> None:
    (system.edge_dir / "note").touch()
    system.api.create("/api/v1/namespaces/default/pods", pod("lonely", node=system.node_name))
    wait_until(lambda: len(system.running_containers()) == 4, 40, "a pod of no controller runs")
    system.kubectl("delete", "node", system.node_name)
    wait_until(lambda: on_node(system) == [], 90, "the cloud has forgotten its pods")
    assert len(system.running_containers()) == 4
    assert system.edge is not None
    system.edge.stop()
    system.join()
    system.start_edge()
    system.wait_node_ready()

    def uids() -> set[str]:
        return {one["metadata"]["uid"] for one in on_node(system)}

    def running() -> set[str]:
        containers = system.running_containers()
        return {system.containerd.labels(one)["io.kubernetes.pod.uid"] for one in containers}

    wait_until(lambda: len(uids()) == 3 and running() == uids(), 90, "only its own pods run")
    left = {one.name for one in (system.edge_dir / "pods").iterdir()}
    assert left == uids()


def test_the_directory_of_the_control_plane_is_refused(system: System) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "kedge.ctl", "reset", "--dir", str(system.control_dir), "--yes"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(),
    )
    assert refused.returncode == 1
    assert "[IsCloud]" in refused.stderr


def on_node(system: System) -> list[dict]:
    return [one for one in system.pods() if one["spec"].get("nodeName") == system.node_name]
