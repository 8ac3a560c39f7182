# SPDX-License-Identifier: Apache-2.0
"""Cgroups of pods, limits that bite, and what the node says it has; on real containerd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.edge import EdgeNode
from tests.rig.edge_pods import container, is_ready, pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

ABOVE = f"/kedge-test-{os.getpid()}"
IS_V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
MI = 1 << 20


@pytest.fixture
def node() -> Iterator[EdgeNode]:
    with EdgeNode.temporary() as started:
        yield started
    for path in sorted(Path("/sys/fs/cgroup").glob(f"*{ABOVE}/**/"), reverse=True):
        path.rmdir()


def read(node: EdgeNode, wanted: dict[str, Any], controller: str, v1: str, v2: str) -> str:
    directory = node.cgroup(wanted, controller, ABOVE)
    assert directory is not None
    return (directory / (v2 if IS_V2 else v1)).read_text().strip()


def test_the_kernel_has_the_pods_limits(node: EdgeNode) -> None:
    node.configure(cgroupRoot=ABOVE, podPidsLimit=64, systemReserved={"memory": "1Gi"})
    bound = {"cpu": "300m", "memory": "48Mi"}
    guaranteed = pod("guaranteed", container("exec sleep 1000000", resources={"limits": bound}))
    for one in guaranteed["spec"]["containers"]:
        one["resources"]["requests"] = bound
    burstable = pod(
        "burstable",
        container("exec sleep 1000000", resources={"requests": {"cpu": "500m"}}),
        container("exec sleep 1000000", "other"),
        resources={"limits": {"memory": "96Mi"}},
    )
    besteffort = pod("besteffort", container("exec sleep 1000000"))
    node.change(guaranteed, burstable, besteffort)
    node.start()
    node.wait(
        lambda: (
            all(one.get("phase") == "Running" for one in node.pods().values())
            and len(node.pods()) == 3
        ),
        "all run",
    )
    assert read(node, guaranteed, "memory", "memory.limit_in_bytes", "memory.max") == str(48 * MI)
    assert read(node, guaranteed, "pids", "pids.max", "pids.max") == "64"
    assert read(node, burstable, "memory", "memory.limit_in_bytes", "memory.max") == str(96 * MI)
    if not IS_V2:
        assert read(node, guaranteed, "cpu", "cpu.cfs_quota_us", "") == "30000"
        assert read(node, guaranteed, "cpu", "cpu.shares", "") == "307"
        assert read(node, besteffort, "cpu", "cpu.shares", "") == "2"
        top = Path(f"/sys/fs/cgroup/cpu{ABOVE}/kubepods")
        assert (top / "burstable/cpu.shares").read_text().strip() == "512"
        limit = Path(f"/sys/fs/cgroup/memory{ABOVE}/kubepods/memory.limit_in_bytes")
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert abs(int(limit.read_text()) - (total - (1 << 30))) < MI
    node.kill()
    statuses = node.reports("pods/status")
    classes = {name: one["status"]["qosClass"] for name, one in statuses.items()}
    assert classes == {
        "guaranteed": "Guaranteed",
        "burstable": "Burstable",
        "besteffort": "BestEffort",
    }
    node.change(deleted=(guaranteed, burstable, besteffort))
    node.start()
    node.wait(lambda: not node.containerd.all_containers(), "all are gone", 30)
    node.wait(
        lambda: (
            not any(
                node.cgroup(one, controller, ABOVE)
                for one in (guaranteed, burstable, besteffort)
                for controller in ("memory", "cpu", "pids")
            )
        ),
        "their cgroups are gone",
    )


def test_a_pod_cannot_have_more_processes_than_the_limit(node: EdgeNode) -> None:
    node.configure(cgroupRoot=ABOVE, podPidsLimit=20)
    script = "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; wait"
    wanted = pod("forks", container(script), restartPolicy="Never")
    node.change(wanted)
    node.start()
    node.wait(lambda: "fork" in node.log(wanted), "the kernel refuses one")
    assert int(read(node, wanted, "pids", "pids.current", "pids.current")) <= 20


def test_a_container_that_exceeds_its_memory_says_so(node: EdgeNode) -> None:
    node.configure(cgroupRoot=ABOVE)
    hog = container("exec tail /dev/zero", resources={"limits": {"memory": "24Mi"}})
    wanted = pod("hog", hog, restartPolicy="Never")
    beside = pod("beside", container("exec sleep 1000000"))
    node.change(wanted, beside)
    node.start()
    node.wait(lambda: node.pods().get("hog", {}).get("phase") == "Failed", "it is killed", 60)
    assert is_ready(node, "beside")
    node.kill()
    (status,) = node.reports("pods/status")["hog"]["status"]["containerStatuses"]
    ended = status["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_the_node_offers_its_capacity_less_what_is_kept(node: EdgeNode) -> None:
    node.configure(
        cgroupRoot=ABOVE,
        systemReserved={"cpu": "250m", "memory": "256Mi", "ephemeral-storage": "1Gi"},
        kubeReserved={"cpu": "250m", "memory": "256Mi"},
        evictionHard={"memory.available": "512Mi", "nodefs.available": "1%"},
    )
    node.change()
    node.start()
    node.wait(lambda: node.status().get("runtime", {}).get("ready"), "the node is ready")
    node.kill()
    status = node.reports("nodes/status")[node.name]["status"]
    capacity, offered = status["capacity"], status["allocatable"]

    def kibibytes(text: str) -> int:
        return int(text.removesuffix("Ki"))

    pages = sum(int(size) for name, size in capacity.items() if name.startswith("hugepages-"))
    kept = kibibytes(capacity["memory"]) - kibibytes(offered["memory"])
    assert kept == (1024 * MI + pages) >> 10
    cpus = int(capacity["cpu"]) * 1000 - 500
    assert offered["cpu"] == (str(cpus // 1000) if cpus % 1000 == 0 else f"{cpus}m")
    storage = kibibytes(capacity["ephemeral-storage"])
    kept_storage = storage - kibibytes(offered["ephemeral-storage"])
    assert abs(kept_storage - (1 << 20) - storage // 100) < 64
    pressed = {one["type"]: one["status"] for one in status["conditions"]}
    assert pressed["MemoryPressure"] == pressed["DiskPressure"] == pressed["PIDPressure"] == "False"
