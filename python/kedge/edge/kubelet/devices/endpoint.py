# SPDX-License-Identifier: Apache-2.0
"""One device plugin as it is known now: its devices and whether it is there; pure.

As with the kubelet: when a plugin goes, its devices are unhealthy at once (allocatable 0, capacity as
it was) and forgotten after ``GRACE_SECONDS``; when it comes again, its list counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

HEALTHY = "Healthy"
GRACE_SECONDS = 300.0
MAX_DEVICES = 4096


@dataclass(slots=True)
class Endpoint:
    """A resource and the plugin that offers it.

    Attributes:
        resource: its name.
        path: of the plugin's socket; empty for one that is only remembered.
        pre_start: whether the plugin wants a call before each start.
        prefers: whether it says which devices go well together.
        health: by device.
        nodes: NUMA nodes by device, where told.
        stopped_at: when it went; None while it is there.
        is_listed: it has said what it has.
    """

    resource: str
    path: str = ""
    pre_start: bool = False
    prefers: bool = False
    health: dict[str, bool] = field(default_factory=dict)
    nodes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    stopped_at: float | None = None
    is_listed: bool = False

    def listed(self, devices: list[dict[str, Any]]) -> None:
        """Takes over what the plugin lists, whole."""
        if len(devices) > MAX_DEVICES:
            devices = devices[:MAX_DEVICES]
        self.is_listed = True
        self.health = {one["id"]: one["health"] == HEALTHY for one in devices}
        self.nodes = {
            one["id"]: tuple(node["id"] for node in one["topology"]["nodes"])
            for one in devices
            if one.get("topology")
        }

    def healthy(self) -> set[str]:
        """What may be given away now."""
        if self.stopped_at is not None:
            return set()
        return {device for device, is_healthy in self.health.items() if is_healthy}

    def counts(self, now: float) -> tuple[int, int]:
        """Capacity and allocatable."""
        if self.stopped_at is not None and now >= self.stopped_at + GRACE_SECONDS:
            self.health, self.nodes = {}, {}
        return len(self.health), len(self.healthy())


def choose(
    count: int, free: set[str], must: set[str], nodes: dict[str, tuple[int, ...]]
) -> list[str]:
    """Devices to give away: those that must be, then such that share a NUMA node, then by name.

    Args:
        count: how many in all.
        free: what may be given; at least as many as needed.
        must: what has to be among them.
        nodes: NUMA nodes by device.
    """
    chosen = sorted(must)[:count]
    rest = sorted(free - must)
    missing = count - len(chosen)
    if missing <= 0:
        return chosen
    by_node: dict[tuple[int, ...], list[str]] = {}
    for device in rest:
        by_node.setdefault(nodes.get(device, ()), []).append(device)
    # The smallest group that is enough leaves the larger ones whole.
    enough = sorted((one for one in by_node.values() if len(one) >= missing), key=len)
    return chosen + (enough[0] if enough else rest)[:missing]
