# SPDX-License-Identifier: Apache-2.0
"""``kubectl patch --subresource resize`` on running pods: the kernel has it, and no container restarts."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.kubectl import Kubectl
from tests.rig.pods import IMAGE
from tests.rig.processes import wait_until
from tests.rig.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

IS_V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
MI = 1 << 20


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    directory = Path(tempfile.mkdtemp(prefix="kedge-e2e-"))
    with System(directory) as started:
        yield started
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def kubectl(system: System) -> Kubectl:
    return Kubectl.of(system)


def pod(name: str, cpu: str, memory: str, **more: Any) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": memory}
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "1000000"],
        "resources": {"requests": amounts, "limits": amounts},
        **more,
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def create(kubectl: Kubectl, wanted: dict[str, Any]) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(wanted))
    name = wanted["metadata"]["name"]
    kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=50s")


def resize(kubectl: Kubectl, name: str, **amounts: str) -> None:
    resources = {"requests": amounts, "limits": amounts}
    patch = {"spec": {"containers": [{"name": "main", "resources": resources}]}}
    kubectl("patch", "pod", name, "--subresource", "resize", "-p", json.dumps(patch))


def status(kubectl: Kubectl, name: str) -> dict[str, Any]:
    (found,) = kubectl.json("get", "pod", name)["status"]["containerStatuses"]
    return found


def condition(kubectl: Kubectl, name: str, kind: str) -> dict[str, Any]:
    found = kubectl.json("get", "pod", name)["status"]["conditions"]
    return next((one for one in found if one["type"] == kind), {})


def kernel(uid: str, container_id: str, controller: str, v1: str, v2: str) -> list[str]:
    """What the pod's and the container's cgroup have."""
    root = Path("/sys/fs/cgroup") / ("" if IS_V2 else controller)
    name = v2 if IS_V2 else v1
    directory = next((root / "kubepods").glob(f"**/pod{uid}"))
    inner = directory / container_id.rpartition("//")[2]
    return [(one / name).read_text().strip() for one in (directory, inner)]


def test_cpu_and_memory_change_in_place(kubectl: Kubectl) -> None:
    create(kubectl, pod("grows", "100m", "32Mi"))
    before = status(kubectl, "grows")
    uid = kubectl.json("get", "pod", "grows")["metadata"]["uid"]
    for cpu, memory in (("200m", "64Mi"), ("150m", "48Mi")):
        resize(kubectl, "grows", cpu=cpu, memory=memory)
        amounts = {"cpu": cpu, "memory": memory}

        def is_done(amounts: dict[str, str] = amounts) -> bool:
            return bool(status(kubectl, "grows").get("resources") == {
                "limits": amounts, "requests": amounts
            })  # fmt: skip

        wait_until(is_done, 20, f"the node has given {amounts}")
        found = status(kubectl, "grows")
        assert found["allocatedResources"] == amounts
        assert (found["containerID"], found["restartCount"]) == (before["containerID"], 0)
        size = str(int(memory.removesuffix("Mi")) * MI)
        where = ("memory", "memory.limit_in_bytes", "memory.max")
        assert kernel(uid, found["containerID"], *where) == [size, size]
        if not IS_V2:
            quota = str(int(cpu.removesuffix("m")) * 100)
            assert kernel(uid, found["containerID"], "cpu", "cpu.cfs_quota_us", "") == [
                quota,
                quota,
            ]
        wait_until(lambda: not condition(kubectl, "grows", "PodResizeInProgress"), 10, "it is over")
    wait_until(
        lambda: "cpu=150m,memory=48Mi" in kubectl("describe", "pod", "grows"),
        20,
        "its Events say so",
    )
    assert "ResizeCompleted" in kubectl("describe", "pod", "grows")
    kubectl("delete", "pod", "grows", "--wait=false")


def test_the_pods_own_limits_change_in_place(kubectl: Kubectl) -> None:
    wanted = pod("shares", "50m", "16Mi")
    bounded = wanted["spec"]["containers"][0]
    free = bounded | {"name": "free", "resources": {}}
    amounts = {"cpu": "200m", "memory": "64Mi"}
    wanted["spec"] |= {
        "containers": [bounded, free],
        "resources": {"requests": amounts, "limits": amounts},
    }
    create(kubectl, wanted)
    found = kubectl.json("get", "pod", "shares")
    uid = found["metadata"]["uid"]
    before = {one["name"]: one["containerID"] for one in found["status"]["containerStatuses"]}
    where = ("memory", "memory.limit_in_bytes", "memory.max")
    assert kernel(uid, before["free"], *where) == [str(64 * MI), str(64 * MI)]
    assert kernel(uid, before["main"], *where) == [str(64 * MI), str(16 * MI)]
    for size in (96, 48):
        amounts = {"cpu": "200m", "memory": f"{size}Mi"}
        patch = {"spec": {"resources": {"requests": amounts, "limits": amounts}}}
        kubectl("patch", "pod", "shares", "--subresource", "resize", "-p", json.dumps(patch))

        def is_done(amounts: dict[str, str] = amounts) -> bool:
            now = kubectl.json("get", "pod", "shares")["status"]
            return bool(now.get("resources") == {"limits": amounts, "requests": amounts})

        wait_until(is_done, 20, f"the node has given {amounts}")
        assert kernel(uid, before["free"], *where) == [str(size * MI)] * 2
        assert kernel(uid, before["main"], *where) == [str(size * MI), str(16 * MI)]
    now = kubectl.json("get", "pod", "shares")["status"]
    assert {one["name"]: one["containerID"] for one in now["containerStatuses"]} == before
    assert [one["restartCount"] for one in now["containerStatuses"]] == [0, 0]
    assert now["allocatedResources"] == amounts
    kubectl("delete", "pod", "shares", "--wait=false")


def test_more_than_the_node_has_is_said_and_can_be_taken_back(kubectl: Kubectl) -> None:
    create(kubectl, pod("greedy", "100m", "32Mi"))
    resize(kubectl, "greedy", cpu="1000", memory="32Mi")
    wait_until(lambda: condition(kubectl, "greedy", "PodResizePending"), 20, "it is refused")
    found = condition(kubectl, "greedy", "PodResizePending")
    assert (found["status"], found["reason"]) == ("True", "Infeasible")
    assert found["message"].startswith("Node didn't have enough capacity: cpu, requested: 1000000")
    assert status(kubectl, "greedy")["resources"]["limits"]["cpu"] == "100m"
    resize(kubectl, "greedy", cpu="100m", memory="32Mi")
    wait_until(
        lambda: not condition(kubectl, "greedy", "PodResizePending"), 20, "the condition has gone"
    )
    kubectl("delete", "pod", "greedy", "--wait=false")


def test_a_container_that_asks_for_it_is_restarted(kubectl: Kubectl) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    create(kubectl, pod("restarts", "100m", "32Mi", resizePolicy=policy))
    resize(kubectl, "restarts", cpu="100m", memory="64Mi")
    wait_until(lambda: status(kubectl, "restarts")["restartCount"] == 1, 20, "it restarts")
    wait_until(lambda: status(kubectl, "restarts")["ready"], 20, "it is ready again")
    found = status(kubectl, "restarts")
    uid = kubectl.json("get", "pod", "restarts")["metadata"]["uid"]
    where = ("memory", "memory.limit_in_bytes", "memory.max")
    wait_until(
        lambda: kernel(uid, found["containerID"], *where) == [str(64 * MI)] * 2, 10, "it has 64Mi"
    )
    kubectl("delete", "pod", "restarts", "--wait=false")


def test_memory_in_use_is_not_taken_away(kubectl: Kubectl) -> None:
    fill = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); touch /tmp/full; sleep 1000000; echo $x"
    probe = {"exec": {"command": ["cat", "/tmp/full"]}, "periodSeconds": 1}
    wanted = pod("full", "500m", "160Mi", command=["sh", "-c", fill], readinessProbe=probe)
    create(kubectl, wanted)
    resize(kubectl, "full", cpu="500m", memory="16Mi")
    wait_until(
        lambda: condition(kubectl, "full", "PodResizeInProgress").get("reason") == "Error",
        30,
        "the node says that it cannot",
    )
    found = condition(kubectl, "full", "PodResizeInProgress")
    assert "below current usage" in found["message"]
    assert status(kubectl, "full")["restartCount"] == 0
    assert status(kubectl, "full")["resources"]["limits"]["memory"] == "160Mi"
    kubectl("delete", "pod", "full", "--wait=false")
