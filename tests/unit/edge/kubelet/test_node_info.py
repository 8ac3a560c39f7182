# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself, from a system made of files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kedge.edge.kubelet import node_info

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


@pytest.fixture
def system(tmp_path: Path) -> Path:
    write(
        tmp_path,
        "proc/meminfo",
        "MemTotal:  4194304 kB\nMemAvailable:  2097152 kB\nHugePages_Total: 1\n",
    )
    write(tmp_path, "proc/loadavg", "0.1 0.1 0.1 2/300 4711\n")
    write(tmp_path, "proc/sys/kernel/pid_max", "32768\n")
    write(tmp_path, "proc/sys/kernel/threads-max", "100000\n")
    write(tmp_path, "proc/sys/kernel/random/boot_id", "boot-1\n")
    write(tmp_path, "etc/machine-id", "machine-1\n")
    write(tmp_path, "etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_capacity_and_allocatable_differ_by_what_the_system_keeps(system: Path) -> None:
    write(system, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "16\n")
    found = node_info.read(system, system)
    assert found.memory_bytes == 4 * GIB
    assert found.capacity["memory"] == "4194304Ki"
    assert found.allocatable["memory"] == f"{4194304 - 100 * 1024 - 32 * 1024}Ki"
    assert found.capacity["hugepages-2Mi"] == str(32 << 20)
    assert found.capacity["cpu"] == str(os.cpu_count())


def test_the_system_is_named(system: Path) -> None:
    found = node_info.read(system, system).system
    assert found["osImage"] == "Debian GNU/Linux 12"
    assert (found["bootID"], found["machineID"], found["systemUUID"]) == (
        "boot-1",
        "machine-1",
        "machine-1",
    )
    assert found["architecture"] in ("amd64", "arm64", "arm", os.uname().machine)


def test_a_bare_system_leaves_facts_empty(tmp_path: Path) -> None:
    found = node_info.read(tmp_path, tmp_path)
    assert found.memory_bytes == 0
    assert found.system["machineID"] == ""
    assert [one.is_under for one in node_info.pressures(tmp_path, tmp_path)][::2] == [False, False]


def test_there_is_always_an_address() -> None:
    assert node_info.addresses()


def pressure(kind: str, system: Path) -> node_info.Pressure:
    return next(one for one in node_info.pressures(system, system) if one.type == kind)


def test_little_memory_left_is_pressure(system: Path) -> None:
    assert not pressure("MemoryPressure", system).is_under
    write(system, "proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 51200 kB\n")
    found = pressure("MemoryPressure", system)
    assert (found.is_under, found.reason) == (True, "KubeletHasInsufficientMemory")
    assert "50 MiB" in found.message


def test_nearly_all_process_ids_in_use_is_pressure(system: Path) -> None:
    assert not pressure("PIDPressure", system).is_under
    write(system, "proc/loadavg", "0.1 0.1 0.1 2/32000 4711\n")
    assert pressure("PIDPressure", system).reason == "KubeletHasInsufficientPID"


@pytest.mark.parametrize(
    ("blocks", "inodes", "expected"), [(50, 50, False), (5, 50, True), (50, 1, True)]
)
def test_a_nearly_full_disk_is_pressure(
    system: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, inodes: int, expected: bool
) -> None:
    found = os.statvfs_result((4096, 4096, 100, blocks, blocks, 100, inodes, inodes, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    assert pressure("DiskPressure", system).is_under is expected


def test_a_disk_that_cannot_be_read_is_pressure(system: Path) -> None:
    found = node_info.pressures(system / "absent", system)[1]
    assert found.is_under
    assert "cannot read" in found.message


def test_cgroup_v2_is_told_from_a_hybrid(system: Path) -> None:
    assert not node_info.has_cgroup_v2(system)
    write(system, "sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
    assert node_info.has_cgroup_v2(system)
