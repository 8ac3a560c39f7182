# SPDX-License-Identifier: Apache-2.0
"""Static pods for real: without any cloud, and with one that shows their mirrors."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig import fault_points
from tests.rig.edge import EdgeNode
from tests.rig.kubectl import Kubectl, fetched
from tests.rig.pods import IMAGE
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

POINTS = [one for one in fault_points.names() if one.startswith("static.")]

MANIFEST = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: static}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo {word}; exec sleep 1000000"]
"""

BODY = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "b"},
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "1000000"],
            }
        ]
    },
}


def manifest(name: str, word: str = "hello") -> str:
    return MANIFEST.format(name=name, image=IMAGE, word=word)


@pytest.fixture
def node() -> Iterator[EdgeNode]:
    directory = Path(tempfile.mkdtemp(prefix="kedge-static-"))
    manifests = directory / "manifests"
    manifests.mkdir()
    with EdgeNode(directory, settings={"staticPodPath": str(manifests)}) as started:
        yield started
    shutil.rmtree(directory, ignore_errors=True)


def is_ready(node: EdgeNode, name: str) -> bool:
    return bool(node.pods().get(name, {}).get("ready") == "1/1")


def is_current(node: EdgeNode) -> bool:
    """Whether the status is of the agent that runs now."""
    assert node.agent is not None
    return bool(node.status().get("agent", {}).get("pid") == node.agent.pid)


def test_static_pods_run_without_any_cloud(node: EdgeNode) -> None:
    manifests = node.directory / "manifests"
    (manifests / "a.yaml").write_text(manifest("a"))
    (manifests / "bad.yaml").write_text("kind: [")
    node.change()
    node.start()
    node.wait(lambda: is_ready(node, "a-edge-1"), "it is ready")
    before = node.containerd.running_containers()
    node.kill()
    events = node.reports("events").values()
    assert any("bad.yaml: neither YAML nor JSON" in one["message"] for one in events)
    node.start()
    node.wait(lambda: is_current(node) and is_ready(node, "a-edge-1"), "it is adopted")
    assert node.containerd.running_containers() == before, "it survives the agent"
    first = node.pods()["a-edge-1"]["uid"]
    (manifests / "a.yaml").write_text(manifest("a", "changed"))
    node.wait(
        lambda: is_ready(node, "a-edge-1") and node.pods()["a-edge-1"]["uid"] != first, "it changed"
    )
    (manifests / "b.json").write_text(json.dumps(BODY))
    node.wait(lambda: is_ready(node, "b-edge-1"), "another one comes")
    (manifests / "a.yaml").unlink()
    node.wait(lambda: set(node.pods()) == {"b-edge-1"}, "and one goes")
    node.kill()
    node.containerd.reboot()
    node.start()
    node.wait(
        lambda: is_current(node) and is_ready(node, "b-edge-1"), "it comes back after a reboot", 30
    )
    assert len(node.containerd.running_containers()) == 1


@pytest.mark.parametrize("point", POINTS)
def test_an_agent_killed_on_the_way_runs_what_the_file_says_and_once(
    node: EdgeNode, point: str
) -> None:
    manifests = node.directory / "manifests"
    (manifests / "a.yaml").write_text(manifest("a"))
    # A mirror of an earlier content of the file, as the cloud may still have it.
    annotations = {"kubernetes.io/config.mirror": "before"}
    metadata = {"name": "a-edge-1", "namespace": "default", "uid": "m0", "annotations": annotations}
    stale = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}
    if point == "static.mirror.unwanted":
        node.change(stale)
    else:
        node.change()
    node.crash(point)
    node.start()
    node.wait(lambda: is_current(node) and is_ready(node, "a-edge-1"), "it runs")
    first = node.pods()["a-edge-1"]["uid"]
    containers = node.containerd.running_containers()
    assert len(containers) == 1
    node.kill()
    asked = "pods/deleted" if point == "static.mirror.unwanted" else "pods/mirror"
    assert "a-edge-1" in node.reports(asked)
    # Killed again, while another content takes the place of the first.
    (manifests / "a.yaml").write_text(manifest("a", "changed"))
    node.crash(point)
    node.start()
    node.wait(
        lambda: is_ready(node, "a-edge-1") and node.pods()["a-edge-1"]["uid"] != first,
        "what the file says now runs",
    )
    node.wait(lambda: len(node.containerd.running_containers()) == 1, "and nothing else")
    assert node.containerd.running_containers() != containers


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="kedge-mirror-") as directory:
        one = System(Path(directory), with_edge=False)
        with one:
            one.containerd.start()
            one.start_link()
            one.join()
            manifests = Path(directory) / "manifests"
            manifests.mkdir()
            settings = one.edge_dir / "edge.yaml"
            settings.write_text(settings.read_text() + f"\nstaticPodPath: {manifests}\n")
            one.start_edge()
            one.wait_node_ready()
            yield one


def test_a_mirror_shows_a_static_pod_and_comes_back_when_it_is_deleted(system: System) -> None:
    kubectl = Kubectl(fetched("current"), system.kubeconfig, "default", system.directory)
    manifests = system.directory / "manifests"
    (manifests / "web.yaml").write_text(manifest("web"))

    def get(name: str = "web-edge-1") -> Any:
        found = kubectl.run("get", "pod", name, "-o", "json", "--ignore-not-found", code=None)
        return json.loads(found.stdout) if found.stdout else None

    def running() -> Any:
        found = get()
        return found if found and found["status"].get("phase") == "Running" else None

    found = wait_until(running, 30, "the mirror runs")
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Node", "edge-1")
    assert found["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    assert kubectl("logs", "web-edge-1") == "hello\n"
    assert kubectl("exec", "web-edge-1", "--", "echo", "inside") == "inside\n"
    containers = system.running_containers()
    kubectl("delete", "pod", "web-edge-1")
    again = wait_until(
        lambda: (one := running()) and one["metadata"]["uid"] != found["metadata"]["uid"] and one,
        30,
        "another mirror",
    )
    assert system.running_containers() == containers, "the pod went on, and runs once"
    assert again["status"]["containerStatuses"][0]["restartCount"] == 0

    # The first start was before there was a mirror to tell it of; the next one is not.
    def told(words: str) -> bool:
        return words in kubectl("describe", "pod", "web-edge-1")

    wait_until(lambda: told("Started container main"), 30, "the start is told")
    assert told("Created container: main")
    assert not told("(x2 over")
    for container in containers:
        system.containerd.ctr("tasks", "kill", "--signal", "SIGKILL", container)
    wait_until(lambda: told("(x2 over"), 30, "the restart is told")
    (manifests / "web.yaml").write_text(manifest("web", "changed"))
    wait_until(
        lambda: (
            running() is not None
            and kubectl.run("logs", "web-edge-1", code=None).stdout == "changed\n"
        ),
        30,
        "a changed file",
    )
    (manifests / "web.yaml").unlink()
    wait_until(lambda: get() is None, 30, "the mirror goes with its file")
    assert system.running_containers() == []
