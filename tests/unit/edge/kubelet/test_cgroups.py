# SPDX-License-Identifier: Apache-2.0
"""The tree of cgroups, on directories that stand for the kernel's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kedge.edge.kubelet.node.reservations import Reservations, all_pods, check
from kedge.edge.kubelet.pod.status import qos_class
from kedge.edge.kubelet.resources import cgroups, resources
from kedge.edge.kubelet.resources.cgroups import Cgroups, Names
from kedge.edge.kubelet.resources.resources import Limits, pod_limits
from tests.unit.edge.kubelet.builders import pod, spec

if TYPE_CHECKING:
    from pathlib import Path

UID = "00000000-0000-0000-0000-000000000001"


def asking(**resources: Any) -> dict[str, Any]:
    return pod(spec(resources=resources))


BOUND = {"cpu": "500m", "memory": "64Mi"}
GUARANTEED = {"limits": BOUND, "requests": BOUND}


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    for name in ("cpu", "cpuacct", "memory", "pids", "freezer"):
        (tmp_path / name).mkdir()
    return tmp_path


class UnifiedDirectory:
    """What the kernel puts into each new cgroup of version 2."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "cgroup.controllers").write_text("cpuset cpu io memory pids hugetlb\n")
        (root / "cgroup.subtree_control").write_text("")

    def fill(self, *levels: str) -> Path:
        path = self.root
        for level in levels:
            path /= level
            path.mkdir(exist_ok=True)
            (path / "cgroup.controllers").write_text("cpuset cpu io memory pids hugetlb\n")
        return path


def texts(directory: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in directory.iterdir() if one.is_file()}


@pytest.mark.parametrize(
    ("above", "systemd", "name", "path"),
    [
        ("", False, f"/kubepods/burstable/pod{UID}", f"kubepods/burstable/pod{UID}"),
        ("/edge/a", False, f"/edge/a/kubepods/burstable/pod{UID}", None),
        (
            "",
            True,
            f"kubepods-burstable-pod{UID.replace('-', '_')}.slice",
            "kubepods.slice/kubepods-burstable.slice/"
            f"kubepods-burstable-pod{UID.replace('-', '_')}.slice",
        ),
    ],
)
def test_a_pods_cgroup_is_named_as_the_kubelet_names_it(
    above: str, systemd: bool, name: str, path: str | None
) -> None:
    wanted = asking(requests={"cpu": "100m"})
    wanted["metadata"]["uid"] = UID
    names = Names(systemd, above)
    assert names.pod(wanted) == name
    assert names.path(name) == (path or name.lstrip("/"))


def test_a_guaranteed_pod_is_right_below_kubepods() -> None:
    wanted = asking(**GUARANTEED)
    assert Names().pod(wanted) == f"/kubepods/pod{wanted['metadata']['uid']}"


def test_version_1_gets_its_files(version_1: Path) -> None:
    tree = Cgroups(pids=100, root=version_1)
    wanted = asking(**GUARANTEED)
    tree.prepare(wanted)
    name = tree.names.pod(wanted).lstrip("/")
    assert texts(version_1 / "cpu" / name) == {
        "cpu.shares": "512",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
    }
    assert texts(version_1 / "memory" / name) == {"memory.limit_in_bytes": str(64 << 20)}
    assert texts(version_1 / "pids" / name) == {"pids.max": "100"}
    assert not (version_1 / "freezer" / "kubepods").exists()


def test_version_2_gets_its_files_and_hands_controllers_down(tmp_path: Path) -> None:
    system = UnifiedDirectory(tmp_path)
    wanted = asking(**GUARANTEED)
    name = f"pod{wanted['metadata']['uid']}"
    system.fill("kubepods")
    tree = Cgroups(pids=100, huge_page_sizes=("2MB",), root=tmp_path)
    tree.prepare(wanted)
    found = texts(tmp_path / "kubepods" / name)
    assert found == {
        "cpu.weight": "59",
        "cpu.max": "50000 100000",
        "memory.max": str(64 << 20),
        "pids.max": "100",
        "hugetlb.2MB.max": "0",
    }
    assert (tmp_path / "kubepods" / "cgroup.subtree_control").read_text() == "+hugetlb"


def test_the_burstable_pods_together_weigh_what_they_ask_for(version_1: Path) -> None:
    tree = Cgroups(root=version_1)
    asyncio.run(tree.begin(Limits(memory_bytes=1 << 30)))
    shares = version_1 / "cpu/kubepods/burstable/cpu.shares"
    first, second = asking(requests={"cpu": "500m"}), asking(requests={"cpu": "1500m"})
    second["metadata"]["uid"] = UID
    for one in (first, second):
        tree.note(one)
    assert shares.read_text() == "2048"
    tree.note(asking(limits={"cpu": "1"}, requests={"cpu": "1"}))
    tree.forget(UID)
    assert shares.read_text() == "1024"
    assert (version_1 / "cpu/kubepods/besteffort/cpu.shares").read_text() == "2"
    memory = version_1 / "memory/kubepods/memory.limit_in_bytes"
    assert memory.read_text() == str(1 << 30)


def test_a_limit_without_its_controller_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    said: list[str] = []
    tree = Cgroups(pids=10, root=tmp_path, complain=said.append)
    for _ in range(2):
        tree.prepare(asking())
    assert said == ["limits of pids are not enforced: no such cgroup controller"]


def test_a_cgroup_goes_from_every_hierarchy_also_when_its_class_is_not_known(
    version_1: Path,
) -> None:
    tree = Cgroups(root=version_1)
    wanted = asking(requests={"cpu": "1"})
    tree.prepare(wanted)
    for path in version_1.glob("*/kubepods/burstable/pod*/*"):
        path.unlink()  # the kernel's files do not keep a cgroup from being removed
    tree.remove(wanted["metadata"]["uid"])
    assert list(version_1.glob("*/kubepods/*/pod*")) == []


def test_systemd_is_told_the_same() -> None:
    limits = pod_limits(asking(**GUARANTEED), "Guaranteed", (), 7)
    assert cgroups.properties(limits, is_v2=True) == [
        "CPUWeight=59",
        "CPUQuota=50%",
        f"MemoryMax={64 << 20}",
        "TasksMax=7",
    ]
    assert cgroups.properties(limits, is_v2=False)[::2] == [
        "CPUShares=512",
        f"MemoryLimit={64 << 20}",
    ]


def test_systemd_is_told_through_its_own_program(tmp_path: Path, monkeypatch: Any) -> None:
    tool, said = tmp_path / "systemctl", tmp_path / "said"
    tool.write_text(f'#!/bin/sh\necho "$@" > {said}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tree = Cgroups(Names(systemd=True), root=tmp_path)
    wanted = asking(**GUARANTEED)
    asyncio.run(tree.settle(wanted))
    words = said.read_text().split()
    assert words[:3] == ["set-property", "--runtime", tree.names.pod(wanted)]
    assert "CPUQuota=50%" in words
    tool.write_text("#!/bin/sh\necho Unit is not loaded >&2; exit 1\n")
    problems: list[str] = []
    tree.complain = problems.append
    asyncio.run(tree.settle(wanted))
    assert "Unit is not loaded" in problems[0]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, Limits(2, -1, -1)),
        ({"requests": {"cpu": "250m"}}, Limits(256, -1, -1)),
        ({"requests": {"cpu": "250m"}, "limits": {"memory": "1Mi"}}, Limits(256, -1, 1 << 20)),
    ],
)
def test_only_what_is_bounded_bounds_the_pod(resources: Any, expected: Limits) -> None:
    wanted = asking(**resources)
    assert pod_limits(wanted, qos_class(wanted), (), 0) == expected


def test_one_container_without_a_limit_leaves_the_pod_without() -> None:
    wanted = pod(spec("a", resources=GUARANTEED), spec("b"))
    found = pod_limits(wanted, qos_class(wanted), (), 0)
    assert (found.cpu_quota, found.memory_bytes) == (-1, -1)


def test_the_pods_own_resources_win_over_its_containers() -> None:
    wanted = pod(spec("a", resources={"limits": {"memory": "1Mi"}}), spec("b"))
    wanted["spec"]["resources"] = {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": BOUND}
    found = pod_limits(wanted, qos_class(wanted), (), 0)
    assert qos_class(wanted) == "Burstable"
    assert (found.cpu_shares, found.cpu_quota, found.memory_bytes) == (512, 200_000, 1 << 30)
    wanted["spec"]["resources"] = GUARANTEED
    assert qos_class(wanted) == "Guaranteed"
    linux = resources.linux_resources("Guaranteed", spec("b"), 0, pod_level=GUARANTEED)
    assert linux["memory_limit_in_bytes"] == 64 << 20


def test_initial_containers_count_while_they_run_and_sidecars_always() -> None:
    first = spec("first", resources={"requests": {"cpu": "2"}})
    beside = spec("beside", resources={"requests": {"cpu": "1"}}, restartPolicy="Always")
    wanted = pod(spec("a", resources={"requests": {"cpu": "500m"}}))
    wanted["spec"]["initContainers"] = [first]
    assert resources.pod_amount(wanted, "requests", "cpu") == 2 * 10**9
    wanted["spec"]["initContainers"] = [beside, first]
    wanted["spec"]["overhead"] = {"cpu": "250m"}
    assert resources.pod_amount(wanted, "requests", "cpu") == 3_250_000_000


def test_huge_pages_are_given_to_those_who_ask_and_to_nobody_else() -> None:
    container = spec(resources={"limits": {"hugepages-2Mi": "4Mi"}})
    found = resources.linux_resources("Burstable", container, 0, huge_page_sizes=("2MB", "1GB"))
    assert found["hugepage_limits"] == [
        {"page_size": "2MB", "limit": 4 << 20},
        {"page_size": "1GB", "limit": 0},
    ]
    limits = pod_limits(pod(container), "Burstable", ("2MB", "1GB"), 0)
    assert limits.huge_pages == {"2MB": 4 << 20, "1GB": 0}
    assert cgroups.page_sizes({"cpu": "2", "hugepages-2Mi": "0"}) == ("2MB",)


@pytest.mark.parametrize(("shares", "expected"), [(2, 1), (1024, 100), (262_144, 10_000), (1, 1)])
def test_shares_become_weights_as_in_runc(shares: int, expected: int) -> None:
    assert cgroups.weight(shares) == expected


def test_all_pods_together_get_the_capacity_less_the_reservations() -> None:
    capacity = {"cpu": 4, "memory": 8 << 30}
    kept = Reservations({"cpu": "500m", "memory": "1Gi"}, {"pid": "1000"})
    found = all_pods(capacity, kept, 32_768)
    assert (found.cpu_shares, found.memory_bytes, found.pids) == (3584, 7 << 30, 31_768)
    assert all_pods(capacity, Reservations(), 32_768).pids is None


@pytest.mark.parametrize(
    ("reserved", "words"), [({"gpu": "1"}, "gpu"), ({"cpu": "many"}, "many"), ({"cpu": "-1"}, "-1")]
)
def test_what_cannot_be_reserved_is_refused(reserved: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=f"systemReserved: .*{words}"):
        check("systemReserved", reserved)


def test_the_agent_lowers_its_own_score_or_says_once_that_it_may_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    score = tmp_path / "oom_score_adj"
    cgroups.protect_agent(score)
    assert score.read_text() == "-999"
    cgroups.protect_agent(tmp_path / "absent" / "score")
    assert "OOM score cannot be lowered" in caplog.text
