# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself, from a system made of files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kedge.edge.kubelet.node import node_info
from kedge.edge.kubelet.node.node import image_list
from kedge.edge.kubelet.node.reservations import Reservations
from kedge.edge.kubelet.pressure.thresholds import thresholds
from kedge.edge.runtime import Image

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
    kept = Reservations(
        {"cpu": "100m", "memory": "50Mi"},
        {"memory": "50Mi"},
        thresholds({"memory.available": "100Mi", "nodefs.available": "10%"}, {}, {}, {}),
    )
    found = node_info.read(system, system, kept)
    assert found.memory_bytes == 4 * GIB
    assert found.capacity["memory"] == "4194304Ki"
    assert found.allocatable["memory"] == f"{4194304 - 200 * 1024 - 32 * 1024}Ki"
    assert found.capacity["hugepages-2Mi"] == str(32 << 20)
    assert found.capacity["cpu"] == str(os.cpu_count())
    assert found.allocatable["cpu"] == f"{os.cpu_count() * 1000 - 100}m"
    storage = int(found.capacity["ephemeral-storage"].removesuffix("Ki"))
    left = int(found.allocatable["ephemeral-storage"].removesuffix("Ki"))
    assert left == pytest.approx(storage * 0.9, rel=1e-6)


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
    assert node_info.process_ids(tmp_path) == (0, 0)


def test_there_is_always_an_address() -> None:
    assert node_info.addresses()


def test_cgroup_v2_is_told_from_a_hybrid(system: Path) -> None:
    assert not node_info.has_cgroup_v2(system)
    write(system, "sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
    assert node_info.has_cgroup_v2(system)


def test_a_node_lists_its_largest_images_with_few_names() -> None:
    images = [
        Image(f"sha256:{number}", (f"a:{number}",), size_bytes=number) for number in range(60)
    ]
    found = image_list([*images, Image("sha256:x", tuple("abcdef"), ("digest",), 100)])
    assert found[0] == {"names": ["digest", "a", "b", "c", "d"], "sizeBytes": 100}
    assert [one["sizeBytes"] for one in found[1:]] == list(range(59, 10, -1))
