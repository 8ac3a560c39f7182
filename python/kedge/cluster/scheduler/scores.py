# SPDX-License-Identifier: Apache-2.0
"""How good a node is for a pod: each score is 0 to 100, weighted as upstream's defaults. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kedge.cluster.machinery.selectors import node_term_matches
from kedge.cluster.machinery.tolerations import PREFER_NO_SCHEDULE, untolerated
from kedge.cluster.scheduler.spread import soft_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kedge.cluster.machinery.records import Node, Pod
    from kedge.cluster.machinery.wire import PodSpec
    from kedge.cluster.scheduler.snapshot import NodeInfo, Snapshot

LEAST_ALLOCATED, BALANCED, TAINTS, AFFINITY, SPREAD = 1.0, 1.0, 3.0, 2.0, 2.0

ASSUMED = {"cpu": 100, "memory": 200 * 1024 * 1024}
"""What a pod that requests nothing is taken to use, so that such pods spread too."""


def score(
    pod: Pod, spec: PodSpec, snapshot: Snapshot, infos: Sequence[NodeInfo]
) -> Mapping[str, float]:
    """The total score of each node that passed the filters."""
    nodes = [info.node for info in infos if info.node is not None]
    totals = {node.name: 0.0 for node in nodes}
    for info in infos:
        if info.node is not None:
            free = _free_fractions(pod, info, info.node)
            totals[info.node.name] = LEAST_ALLOCATED * least(free) + BALANCED * balanced(free)
    _add(totals, TAINTS, _inverted(_disliked(spec, nodes)))
    _add(totals, AFFINITY, _normalised(_preferred(spec, nodes)))
    _add(totals, SPREAD, soft_scores(pod, spec, snapshot, nodes))
    return totals


def least(free: Sequence[float]) -> float:
    """The more is free, the better."""
    return 100.0 * sum(free) / len(free) if free else 0.0


def balanced(free: Sequence[float]) -> float:
    """The more alike the free fractions are, the better."""
    if len(free) < 2:
        return 100.0
    mean = sum(free) / len(free)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in free) / len(free))
    return 100.0 * (1.0 - deviation)


def _free_fractions(pod: Pod, info: NodeInfo, node: Node) -> list[float]:
    """The fractions of cpu and memory that would be free with the pod there."""
    fractions: list[float] = []
    for name, assumed in ASSUMED.items():
        total = node.allocatable.get(name, 0)
        if total <= 0:
            continue
        used = info.requested.get(name, 0) + (pod.requests.get(name, 0) or assumed)
        if name not in info.requested:
            used += assumed * len(info.pods)
        fractions.append(min(max(1.0 - used / total, 0.0), 1.0))
    return fractions


def _disliked(spec: PodSpec, nodes: Sequence[Node]) -> dict[str, float]:
    """How many PreferNoSchedule taints each node has that the pod does not tolerate."""
    tolerations = spec.tolerations or ()
    return {
        node.name: float(
            sum(1 for _ in untolerated(node.taints, tolerations, (PREFER_NO_SCHEDULE,)))
        )
        for node in nodes
        if node.taints
    }


def _preferred(spec: PodSpec, nodes: Sequence[Node]) -> dict[str, float]:
    """The summed weights of the preferred affinity terms that select each node."""
    affinity = spec.affinity.node_affinity if spec.affinity else None
    terms = (affinity.preferred if affinity else None) or ()
    if not terms:
        return {}
    return {
        node.name: float(
            sum(
                term.weight
                for term in terms
                if node_term_matches(term.preference, node.name, node.labels)
            )
        )
        for node in nodes
    }


def _normalised(raw: Mapping[str, float]) -> dict[str, float]:
    high = max(raw.values(), default=0.0)
    return {name: 100.0 * value / high for name, value in raw.items()} if high > 0 else {}


def _inverted(raw: Mapping[str, float]) -> dict[str, float]:
    """As penalties: 0 for a node without, -100 for the worst."""
    return {name: -value for name, value in _normalised(raw).items()}


def _add(totals: dict[str, float], weight: float, scores: Mapping[str, float]) -> None:
    for name, value in scores.items():
        totals[name] += weight * value
