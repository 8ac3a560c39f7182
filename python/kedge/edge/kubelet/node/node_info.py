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

from kedge import files
from kedge.edge.kubelet.node.reservations import Reservations, allocatable, quantity

ROOT = Path("/")
NANO = 10**9
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
        amounts: the capacity in whole units.
    """

    hostname: str
    addresses: tuple[str, ...]
    capacity: dict[str, str]
    allocatable: dict[str, str]
    memory_bytes: int
    system: dict[str, str]
    amounts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Pressure:
    """One of the node's pressure conditions."""

    type: str
    is_under: bool
    reason: str
    message: str


def read(
    disk: Path = ROOT, root: Path = ROOT, reservations: Reservations | None = None
) -> NodeInfo:
    """The node's facts.

    Args:
        disk: a path on the file system that pods' files are on.
        root: where /proc, /sys and /etc are.
        reservations: what pods do not get; None keeps nothing back.
    """
    memory = meminfo(root).get("MemTotal", 0)
    amounts = {
        "cpu": os.cpu_count() or 1,
        "memory": memory,
        "ephemeral-storage": _storage(disk),
    } | _huge_pages(root)
    return NodeInfo(
        hostname=socket.gethostname(),
        addresses=addresses(),
        capacity={name: quantity(name, amount * NANO) for name, amount in amounts.items()},
        allocatable=allocatable(amounts, reservations or Reservations()),
        memory_bytes=memory,
        system=_system(root),
        amounts=amounts,
    )


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


def process_ids(root: Path = ROOT) -> tuple[int, int]:
    """How many process ids there may be, and how many are in use; 0 if the system does not tell."""
    limits = [read_number(root / "proc/sys/kernel" / name) for name in ("pid_max", "threads-max")]
    words = read_text(root / "proc/loadavg").split()
    running = words[3].partition("/")[2] if len(words) > 3 else ""
    known = [limit for limit in limits if limit > 0]
    return min(known, default=0), int(running) if running.isdigit() else 0


def _system(root: Path) -> dict[str, str]:
    kernel = os.uname()
    machine_id = read_text(root / "etc/machine-id")
    return {
        "machineID": machine_id,
        "systemUUID": read_text(root / "sys/class/dmi/id/product_uuid") or machine_id,
        "bootID": read_text(root / "proc/sys/kernel/random/boot_id"),
        "kernelVersion": kernel.release,
        "osImage": _os_image(root),
        "operatingSystem": "linux",
        "architecture": _ARCHITECTURES.get(kernel.machine, kernel.machine),
    }


def _os_image(root: Path) -> str:
    for line in read_text(root / "etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return ""


def meminfo(root: Path) -> dict[str, int]:
    """``/proc/meminfo`` in bytes."""
    found = {}
    for line in read_text(root / "proc/meminfo").splitlines():
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
        found[f"hugepages-{name}"] = read_number(path / "nr_hugepages") * kibibytes * 1024
    return found


def read_number(path: Path) -> int:
    """The number in a small file; 0 if there is none."""
    text = read_text(path)
    return int(text) if text.isdigit() else 0


def read_text(path: Path) -> str:
    """A small file's text, stripped; empty if it cannot be read."""
    return files.read_text(path, MAX_FILE_BYTES).strip()
