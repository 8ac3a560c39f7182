# SPDX-License-Identifier: Apache-2.0
"""Which pods a ReplicaSet holds, creates and deletes, and what it reports. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery.selectors import is_empty, labels_match

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kedge.cluster.machinery.records import Pod, Workload

BURST = 500
"""The most pods that one turn creates or deletes."""

_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a ReplicaSet holds, takes and lets go."""

    owned: tuple[Pod, ...]
    adopt: tuple[Pod, ...]
    release: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about the number of pods."""

    create: int
    delete: tuple[Pod, ...]


def claim(replica_set: Workload, owned: Iterable[Pod], strays: Iterable[Pod]) -> Claim:
    """Sorts pods by whether the ReplicaSet selects them. Pure.

    Args:
        replica_set: the claimant.
        owned: pods that it controls.
        strays: pods of its namespace that nothing controls.
    """
    if is_empty(replica_set.selector):
        return Claim(tuple(owned), (), ())
    held: list[Pod] = []
    let_go: list[Pod] = []
    for pod in owned:
        selected = labels_match(replica_set.selector, pod.labels)
        if selected or pod.deleted or replica_set.deleted:
            held.append(pod)
        else:
            let_go.append(pod)
    taken = (
        ()
        if replica_set.deleted
        else tuple(
            pod for pod in strays if pod.active and labels_match(replica_set.selector, pod.labels)
        )
    )
    return Claim(tuple(held), taken, tuple(let_go))


def plan(replica_set: Workload, pods: Iterable[Pod]) -> Plan:
    """How many pods to create, or which to delete. Pure.

    Args:
        replica_set: what is wanted.
        pods: the pods that it controls.
    """
    if replica_set.deleted:
        return Plan(0, ())
    active = [pod for pod in pods if pod.active]
    missing = replica_set.replicas - len(active)
    if missing >= 0:
        return Plan(min(missing, BURST), ())
    return Plan(0, tuple(deletion_order(active)[: min(-missing, BURST)]))


def deletion_order(pods: Sequence[Pod]) -> list[Pod]:
    """Pods, the one to go first in front, as upstream orders them. Pure.

    Unassigned before assigned, pending before running, not ready before ready, lower deletion cost
    first, then from nodes that hold more of them, then ready for a shorter time (in powers of ten),
    more restarts, and the younger.
    """
    together = Counter(pod.node for pod in pods if pod.active)
    now = max((max(pod.ready_since, pod.created) for pod in pods), default=0.0)

    def rank(pod: Pod) -> tuple[Any, ...]:
        return (
            bool(pod.node),
            _PHASE_ORDER.get(pod.phase, 2),
            pod.ready,
            pod.deletion_cost,
            -together[pod.node],
            _age(now - pod.ready_since) if pod.ready else 0,
            -pod.restarts,
            _age(now - pod.created),
            -pod.created,
            pod.uid,
        )

    return sorted(pods, key=rank)


def _age(seconds: float) -> int:
    """Ages of the same order of magnitude are equal, so that scaling down stays spread."""
    return len(str(int(max(seconds, 0))))


def status_of(
    replica_set: Workload, template_labels: dict[str, str], pods: Iterable[Pod], now: float
) -> dict[str, Any]:
    """The counts of a ReplicaSet's status. Pure."""
    active = [pod for pod in pods if pod.active]
    return {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(
            template_labels.items() <= pod.labels.items() for pod in active
        ),
        "readyReplicas": sum(pod.ready for pod in active),
        "availableReplicas": sum(
            pod.available(replica_set.min_ready_seconds, now) for pod in active
        ),
        "observedGeneration": replica_set.generation,
    }


def seconds_to_next_available(
    replica_set: Workload, pods: Iterable[Pod], now: float
) -> float | None:
    """When the next ready pod will have been ready for long enough. Pure."""
    waits = [
        pod.ready_since + replica_set.min_ready_seconds - now
        for pod in pods
        if pod.active and pod.ready and not pod.available(replica_set.min_ready_seconds, now)
    ]
    return max(min(waits), 0.001) if waits else None
