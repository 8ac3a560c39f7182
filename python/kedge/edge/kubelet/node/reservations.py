# SPDX-License-Identifier: Apache-2.0
"""What of the node is left for pods: capacity less what the system, kedge and eviction keep; pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kedge.edge.kubelet.resources.resources import Limits, nano, shares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.edge.kubelet.pressure.thresholds import Threshold

RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
_NANO = 10**9
_SIGNALS = {"memory": "memory.available", "ephemeral-storage": "nodefs.available"}


class Reservations(NamedTuple):
    """What pods do not get.

    Attributes:
        system: for the operating system, by resource.
        kube: for the agent and the container runtime.
        thresholds: for eviction to have something to work with; hard ones count.
    """

    system: Mapping[str, str] = MappingProxyType({})
    kube: Mapping[str, str] = MappingProxyType({})
    thresholds: tuple[Threshold, ...] = ()

    def reserved(self, name: str) -> int:
        """For system and kedge together, in billionths."""
        return sum(nano(one[name]) for one in (self.system, self.kube) if name in one)

    def kept_for_eviction(self, name: str, capacity: int) -> int:
        """What the hard thresholds keep, in whole units."""
        signal = _SIGNALS.get(name)
        found = [
            one.least.of(capacity)
            for one in self.thresholds
            if one.is_hard and one.signal == signal
        ]
        return max(found, default=0)


def check(setting: str, reserved: Mapping[str, str]) -> None:
    """Refuses what cannot be reserved.

    Raises:
        ValueError: an unknown resource or a quantity that cannot be read.
    """
    for name, text in reserved.items():
        if name not in RESERVABLE:
            wanted = ", ".join(RESERVABLE)
            raise ValueError(f"{setting}: unknown resource, got: {name!r}, wanted one of: {wanted}")
        try:
            is_fine = nano(text) >= 0
        except ValueError:
            is_fine = False
        if not is_fine:
            raise ValueError(f"{setting}: {name}: got: {text!r}, wanted: a quantity such as 100Mi")


def allocatable(capacity: Mapping[str, int], reservations: Reservations) -> dict[str, str]:
    """What pods may ask for, as quantities.

    Args:
        capacity: cpu in whole CPUs, everything else in whole units.
        reservations: what is kept.
    """
    pages = sum(size for name, size in capacity.items() if name.startswith("hugepages-"))
    found = {}
    for name, amount in capacity.items():
        left = amount * _NANO - reservations.reserved(name)
        left -= reservations.kept_for_eviction(name, amount) * _NANO
        left = max(0, left - (pages * _NANO if name == "memory" else 0))
        found[name] = quantity(name, left)
    return found


def quantity(name: str, amount: int) -> str:
    """Billionths of a resource as people write it: thousandths of a CPU, Ki of memory and disk."""
    if name == "cpu":
        milli = amount // 10**6
        return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"
    units = amount // _NANO
    return f"{units >> 10}Ki" if name in ("memory", "ephemeral-storage") else str(units)


def all_pods(capacity: Mapping[str, int], reservations: Reservations, most_pids: int) -> Limits:
    """What ``kubepods`` is given: all but the reservations; eviction acts before that is full."""
    cpu = capacity.get("cpu", 0) * _NANO - reservations.reserved("cpu")
    memory = capacity.get("memory", 0) - reservations.reserved("memory") // _NANO
    pids = reservations.reserved("pid") // _NANO
    return Limits(
        cpu_shares=shares(max(0, cpu)),
        memory_bytes=memory if memory > 0 else None,
        pids=most_pids - pids if pids and most_pids > pids else None,
    )
