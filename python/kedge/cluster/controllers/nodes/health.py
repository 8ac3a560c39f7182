# SPDX-License-Identifier: Apache-2.0
"""When a node counts as out of reach, and what that changes. Pure.

A node gives signs of life: its Lease is renewed, or its Ready condition's heartbeat moves. What
counts is when this process saw a sign change, not the times written in it, so that clocks need not
agree. A node that stays silent for the grace period gets Ready=Unknown and a taint that keeps new
pods away. Its pods are marked not ready with a reason of our own and go on: nobody evicts them. When
the node is heard of again, exactly those marks are taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery.conditions import find, with_condition
from kedge.cluster.machinery.times import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kedge.cluster.machinery.wire import Object

GRACE_SECONDS = 40.0
STARTUP_GRACE_SECONDS = 60.0

UNKNOWN_REASON = "NodeStatusUnknown"
NEVER_REASON = "NodeStatusNeverUpdated"
POD_REASON = "NodeUnreachable"

UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_PRESSURES = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
OURS = frozenset({UNREACHABLE, NOT_READY, UNSCHEDULABLE, *_PRESSURES.values()})

_NODE_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(frozen=True, slots=True)
class Health:
    """The signs of life of one node, and when the last one was seen (any monotonic clock)."""

    lease: str
    heartbeat: str
    seen: float
    heard: bool
    """Whether a sign has changed since this process began to look."""

    @property
    def never_spoke(self) -> bool:
        """Whether there was no sign at all so far."""
        return not self.lease and not self.heartbeat


def observe(known: Health | None, lease: str, heartbeat: str, now: float) -> Health:
    """Takes in the present signs of a node."""
    if known is None:
        return Health(lease, heartbeat, now, heard=False)
    if (known.lease, known.heartbeat) == (lease, heartbeat):
        return known
    return replace(known, lease=lease, heartbeat=heartbeat, seen=now, heard=True)


def seconds_left(health: Health, now: float, grace_seconds: float = GRACE_SECONDS) -> float:
    """How long the node may stay silent from now; not positive when it is out of reach."""
    grace = max(grace_seconds, STARTUP_GRACE_SECONDS) if health.never_spoke else grace_seconds
    return health.seen + grace - now


def lost_conditions(node: Object, now: float, *, never_spoke: bool) -> list[dict[str, Any]] | None:
    """The conditions of a node out of reach; None when they say so already."""
    known: list[dict[str, Any]] = list((node.get("status") or {}).get("conditions") or [])
    ready = find(known, "Ready")
    if ready is not None and ready.get("status") == "Unknown":
        return None
    reason = NEVER_REASON if never_spoke else UNKNOWN_REASON
    message = (
        "Kubelet never posted node status."
        if never_spoke
        else "Kubelet stopped posting node status."
    )
    for name in _NODE_CONDITIONS:
        if name == "Ready" or find(known, name) is not None:
            heartbeat = (find(known, name) or {}).get("lastHeartbeatTime")
            known = with_condition(known, name, "Unknown", reason=reason, message=message, now=now)
            if heartbeat:
                known = [
                    {**each, "lastHeartbeatTime": heartbeat} if each["type"] == name else each
                    for each in known
                ]
    return known


def found_conditions(
    node: Object, before: Sequence[Mapping[str, Any]], now: float
) -> list[dict[str, Any]] | None:
    """The conditions of a node that is heard of again but has not reported: those it had before.

    Args:
        node: the stored Node.
        before: its conditions when it was lost.
        now: epoch seconds.

    Returns:
        None when nothing of the loss is left to take back.
    """
    known: list[dict[str, Any]] = list((node.get("status") or {}).get("conditions") or [])
    ready = find(known, "Ready")
    if ready is None or ready.get("status") != "Unknown" or ready.get("reason") != UNKNOWN_REASON:
        return None
    if find(before, "Ready") is None:
        return None
    for each in before:
        present = find(known, each["type"])
        if present is not None and present.get("reason") == UNKNOWN_REASON:
            known = with_condition(
                known,
                each["type"],
                each["status"],
                reason=each.get("reason", ""),
                message=each.get("message", ""),
                now=now,
            )
            known = [
                {**one, "lastHeartbeatTime": text_of(now)} if one["type"] == each["type"] else one
                for one in known
            ]
    return known


def wanted_taints(node: Object, now: float) -> list[dict[str, Any]] | None:
    """The taints of a node by its conditions; None when it has them. Others' taints stay."""
    spec = node.get("spec") or {}
    present: list[dict[str, Any]] = spec.get("taints") or []
    keys = set(_taint_keys(node))
    kept = [each for each in present if not _is_ours(each) or each["key"] in keys]
    had = {each["key"] for each in kept if _is_ours(each)}
    added = [
        {"key": key, "effect": "NoSchedule", "timeAdded": text_of(now)}
        for key in sorted(keys - had)
    ]
    if not added and len(kept) == len(present):
        return None
    return [*kept, *added]


def _is_ours(taint: Mapping[str, Any]) -> bool:
    return taint.get("key") in OURS and taint.get("effect") == "NoSchedule"


def _taint_keys(node: Object) -> Iterable[str]:
    conditions = (node.get("status") or {}).get("conditions") or []
    ready = find(conditions, "Ready")
    if ready is not None and ready.get("status") == "Unknown":
        yield UNREACHABLE
    elif ready is None or ready.get("status") != "True":
        yield NOT_READY
    if (node.get("spec") or {}).get("unschedulable"):
        yield UNSCHEDULABLE
    for name, key in _PRESSURES.items():
        condition = find(conditions, name)
        if condition is not None and condition.get("status") == "True":
            yield key


def lost_pod(pod: Object, node: str, now: float) -> list[dict[str, Any]] | None:
    """The conditions of a pod whose node is out of reach; None when nothing changes."""
    known = (pod.get("status") or {}).get("conditions")
    ready = find(known, "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    message = f"node {node} is out of reach; the pod goes on running there as far as is known"
    return with_condition(known, "Ready", "False", reason=POD_REASON, message=message, now=now)


def found_pod(pod: Object, now: float) -> list[dict[str, Any]] | None:
    """Takes back ``lost_pod``; None when the node has said something newer itself."""
    known = (pod.get("status") or {}).get("conditions")
    ready = find(known, "Ready")
    if ready is None or ready.get("reason") != POD_REASON or ready.get("status") != "False":
        return None
    restored = {"type": "Ready", "status": "True", "lastTransitionTime": text_of(now)}
    return [restored if each is ready else dict(each) for each in known or ()]
