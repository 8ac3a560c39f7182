# SPDX-License-Identifier: Apache-2.0
"""The heart of the scheduler: ``schedule`` picks a node for a pod, or says why none will do. Pure.

Where there are hundreds of nodes, enough that pass are scored, not all; the next pod looks on from
where this one stopped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.cluster.scheduler.filters import AFFINITY, FILTERS, pinned_nodes
from kedge.cluster.scheduler.scores import score
from kedge.cluster.scheduler.spread import HardSpread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.machinery.records import Pod
    from kedge.cluster.machinery.wire import PodSpec
    from kedge.cluster.scheduler.snapshot import NodeInfo, Snapshot
    from kedge.cluster.scheduler.volumes import PodVolumes

ALWAYS_ALL = 100
"""Up to this many nodes all that pass are scored."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A node was found."""

    node: str


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """No node will do now."""

    message: str


def schedule(
    pod: Pod, spec: PodSpec, snapshot: Snapshot, volumes: PodVolumes | None = None
) -> Placed | Unschedulable:
    """Picks the best node that can take a pod.

    Args:
        pod: the pod.
        spec: what it asks for.
        snapshot: the nodes and what is on them; its turn advances.
        volumes: its claims, if it has any.
    """
    count = len(snapshot)
    if not count:
        return Unschedulable("no nodes available to schedule pods")
    if volumes is not None and volumes.blocked:
        return Unschedulable(f"0/{count} nodes are available: {volumes.blocked}.")
    reasons: Counter[str] = Counter()
    feasible: list[NodeInfo] = []
    spread = HardSpread(pod, spec, snapshot)
    enough = _enough(count)
    looked_at = 0
    for info in _candidates(spec, snapshot, reasons):
        looked_at += 1
        found = _objections(pod, spec, info, spread) or _unreachable(volumes, info)
        if found:
            reasons.update(found)
            continue
        feasible.append(info)
        if len(feasible) >= enough:
            break
    snapshot.advance(looked_at if len(feasible) >= enough and count > ALWAYS_ALL else 1)
    if not feasible:
        return Unschedulable(message(count, reasons))
    if len(feasible) == 1 and feasible[0].node is not None:
        return Placed(feasible[0].node.name)
    totals = score(pod, spec, snapshot, feasible)
    return Placed(max(totals, key=totals.__getitem__))


def message(count: int, reasons: Counter[str]) -> str:
    """What FailedScheduling says: ``0/3 nodes are available: 1 Insufficient cpu, 2 ...``."""
    parts = sorted(f"{number} {reason}" for reason, number in reasons.items())
    return f"0/{count} nodes are available: {', '.join(parts)}."


def _candidates(spec: PodSpec, snapshot: Snapshot, reasons: Counter[str]) -> Iterable[NodeInfo]:
    """All nodes, or just those that the pod is pinned to."""
    pinned = pinned_nodes(spec)
    if pinned is None:
        return snapshot.nodes()
    found = [info for info in map(snapshot.get, sorted(pinned)) if info is not None]
    if len(found) < len(snapshot):
        reasons[AFFINITY] += len(snapshot) - len(found)
    return found


def _objections(pod: Pod, spec: PodSpec, info: NodeInfo, spread: HardSpread) -> Iterable[str]:
    node = info.node
    if node is None or node.deleted:
        return ("node(s) were being deleted",)
    for each in FILTERS:
        found = each(pod, spec, info, node)
        if found:
            return found
    return spread.reasons(node)


def _unreachable(volumes: PodVolumes | None, info: NodeInfo) -> Iterable[str]:
    return () if volumes is None or info.node is None else volumes.reasons(info.node)


def _enough(count: int) -> int:
    """How many nodes that pass are enough (upstream's numFeasibleNodesToFind)."""
    if count <= ALWAYS_ALL:
        return count
    percent = max(50 - count // 125, 5)
    return max(count * percent // 100, ALWAYS_ALL)
