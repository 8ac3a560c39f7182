# SPDX-License-Identifier: Apache-2.0
"""What a node is and has, read from the system: addresses, capacity, versions, pressure.

A fact that the system does not tell is left empty, never guessed. Everything is below ``root``, so
that tests can bring their own /proc, /sys and /etc.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
MEMORY_RESERVED_BYTES = 100 << 20
DISK_RESERVED_SHARE = 0.10
INODES_RESERVED_SHARE = 0.05
PIDS_RESERVED_SHARE = 0.05
MAX_FILE_BYTES = 64 * 1024

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
}
# Addresses for documentation (RFC 5737, RFC 3849): a route is looked up, nothing is sent.
_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Facts for the Node object.

    Attributes:
        hostname: of the machine.
        addresses: the one that leads out first; IPv4 before IPv6.
        capacity: cpu, memory, ephemeral-storage, hugepages-SIZE.
        allocatable: the same without what the system keeps.
        memory_bytes: of the machine.
        system: the fields of ``nodeInfo`` that the machine knows.
    """

    hostname: str
    addresses: tuple[str, ...]
    capacity: dict[str, str]
    allocatable: dict[str, str]
    memory_bytes: int
    system: dict[str, str]


@dataclass(frozen=True, slots=True)
class Pressure:
    """One of the node's pressure conditions."""

    type: str
    is_under: bool
    reason: str
    message: str


def read(disk: Path = ROOT, root: Path = ROOT) -> NodeInfo:
    """The node's facts.

    Args:
        disk: a path on the file system that pods' files are on.
        root: where /proc, /sys and /etc are.
    """
    memory = _memory(root).get("MemTotal", 0)
    storage = _storage(disk)
    huge = _huge_pages(root)
    cpu = str(os.cpu_count() or 1)
    held_back = MEMORY_RESERVED_BYTES + sum(huge.values())
    pages = {name: str(size) for name, size in huge.items()}
    capacity = {"cpu": cpu, "memory": _kibibytes(memory), "ephemeral-storage": _kibibytes(storage)}
    allocatable = {
        "cpu": cpu,
        "memory": _kibibytes(max(0, memory - held_back)),
        "ephemeral-storage": _kibibytes(int(storage * (1 - DISK_RESERVED_SHARE))),
    }
    return NodeInfo(
        hostname=socket.gethostname(),
        addresses=addresses(),
        capacity=capacity | pages,
        allocatable=allocatable | pages,
        memory_bytes=memory,
        system=_system(root),
    )


def pressures(disk: Path, root: Path = ROOT) -> list[Pressure]:
    """Whether memory, disk or process ids run short."""
    return [_memory_pressure(root), _disk_pressure(disk), _pid_pressure(root)]


def addresses() -> tuple[str, ...]:
    """The addresses that traffic leaves from, by the routing table; loopback if there is no way out."""
    found = []
    for family, target in _PROBES:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return tuple(found) or ("127.0.0.1",)


def has_cgroup_v2(root: Path = ROOT) -> bool:
    """Whether the unified hierarchy is in use for pods; a hybrid one counts as version 1."""
    return (root / "sys/fs/cgroup/cgroup.controllers").exists()


def _memory_pressure(root: Path) -> Pressure:
    available = _memory(root).get("MemAvailable")
    if available is not None and available < MEMORY_RESERVED_BYTES:
        text = f"kubelet has insufficient memory available: {available >> 20} MiB"
        return Pressure(
            "MemoryPressure", is_under=True, reason="KubeletHasInsufficientMemory", message=text
        )
    text = "kubelet has sufficient memory available"
    return Pressure(
        "MemoryPressure", is_under=False, reason="KubeletHasSufficientMemory", message=text
    )


def _disk_pressure(disk: Path) -> Pressure:
    try:
        found = os.statvfs(disk)
    except OSError as error:
        text = f"kubelet cannot read the file system of {disk}: {error.strerror}"
        return Pressure(
            "DiskPressure", is_under=True, reason="KubeletHasDiskPressure", message=text
        )
    blocks = found.f_bavail / found.f_blocks if found.f_blocks else 1.0
    inodes = found.f_favail / found.f_files if found.f_files else 1.0
    if blocks < DISK_RESERVED_SHARE or inodes < INODES_RESERVED_SHARE:
        text = (
            f"kubelet has disk pressure: {blocks:.0%} of space and {inodes:.0%} of inodes are free"
        )
        return Pressure(
            "DiskPressure", is_under=True, reason="KubeletHasDiskPressure", message=text
        )
    return Pressure(
        "DiskPressure",
        is_under=False,
        reason="KubeletHasNoDiskPressure",
        message="kubelet has no disk pressure",
    )


def _pid_pressure(root: Path) -> Pressure:
    limits = [_number(root / "proc/sys/kernel" / name) for name in ("pid_max", "threads-max")]
    known = [limit for limit in limits if limit > 0]
    words = _text(root / "proc/loadavg").split()
    running = int(words[3].partition("/")[2] or 0) if len(words) > 3 else 0
    if known and running > min(known) * (1 - PIDS_RESERVED_SHARE):
        text = f"kubelet has insufficient PID available: {running} of {min(known)} in use"
        return Pressure(
            "PIDPressure", is_under=True, reason="KubeletHasInsufficientPID", message=text
        )
    return Pressure(
        "PIDPressure",
        is_under=False,
        reason="KubeletHasSufficientPID",
        message="kubelet has sufficient PID available",
    )


def _system(root: Path) -> dict[str, str]:
    kernel = os.uname()
    machine_id = _text(root / "etc/machine-id")
    return {
        "machineID": machine_id,
        "systemUUID": _text(root / "sys/class/dmi/id/product_uuid") or machine_id,
        "bootID": _text(root / "proc/sys/kernel/random/boot_id"),
        "kernelVersion": kernel.release,
        "osImage": _os_image(root),
        "operatingSystem": "linux",
        "architecture": _ARCHITECTURES.get(kernel.machine, kernel.machine),
    }


def _os_image(root: Path) -> str:
    for line in _text(root / "etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return ""


def _memory(root: Path) -> dict[str, int]:
    found = {}
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * 1024
    return found


def _storage(disk: Path) -> int:
    try:
        found = os.statvfs(disk)
    except OSError:
        return 0
    return found.f_blocks * found.f_frsize


def _huge_pages(root: Path) -> dict[str, int]:
    found = {}
    for path in (root / "sys/kernel/mm/hugepages").glob("hugepages-*kB"):
        kibibytes = int(path.name.removeprefix("hugepages-").removesuffix("kB"))
        name = f"{kibibytes >> 20}Gi" if kibibytes % (1 << 20) == 0 else f"{kibibytes >> 10}Mi"
        found[f"hugepages-{name}"] = _number(path / "nr_hugepages") * kibibytes * 1024
    return found


def _kibibytes(size: int) -> str:
    return f"{size >> 10}Ki"


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
