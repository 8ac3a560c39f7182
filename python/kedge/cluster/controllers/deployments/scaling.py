# SPDX-License-Identifier: Apache-2.0
"""Scaling in the middle of a rollout, or while paused: every ReplicaSet its share. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kedge.cluster.controllers.deployments.model import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    Deployment,
    ReplicaSet,
    Scale,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_scaling(deployment: Deployment, replica_sets: Sequence[ReplicaSet]) -> bool:
    """Whether ``spec.replicas`` has changed since the active ReplicaSets were last sized."""
    return any(
        each.noted(DESIRED_REPLICAS) not in {None, deployment.replicas}
        for each in replica_sets
        if each.replicas > 0
    )


def scale(deployment: Deployment, new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> list[Scale]:
    """The sizes after ``spec.replicas`` has changed.

    One active ReplicaSet (or the newest, when none is) takes it all; a rollout that is through
    drops what is left of the old ones; one in the middle is enlarged or shrunk in proportion.
    """
    every = [*old, *([new] if new else [])]
    active = [each for each in every if each.replicas > 0]
    if len(active) <= 1:
        only = active[0] if active else (new or (old[-1] if old else None))
        return [] if only is None else _resized(only, deployment.replicas)
    if new is not None and _is_saturated(deployment, new):
        return [Scale(each, 0) for each in old if each.replicas > 0]
    if deployment.recreate:
        return []
    return _in_proportion(deployment, active)


def _resized(replica_set: ReplicaSet, replicas: int) -> list[Scale]:
    return [Scale(replica_set, replicas)] if replica_set.replicas != replicas else []


def _is_saturated(deployment: Deployment, new: ReplicaSet) -> bool:
    return (
        new.noted(DESIRED_REPLICAS) == deployment.replicas
        and new.replicas == deployment.replicas
        and new.available == deployment.replicas
    )


def _in_proportion(deployment: Deployment, active: Sequence[ReplicaSet]) -> list[Scale]:
    """Spreads the change over the active ReplicaSets by their size; the largest takes the rest."""
    allowed = deployment.max_replicas if deployment.replicas > 0 else 0
    missing = allowed - sum(each.replicas for each in active)
    younger_first = missing > 0
    ordered = sorted(
        active,
        key=lambda each: (
            -each.replicas,
            -each.created if younger_first else each.created,
            each.name,
        ),
    )
    given = 0
    sizes: list[int] = []
    for each in ordered:
        share = _share(deployment, each)
        left = missing - given
        change = min(share, left) if missing > 0 else max(share, left)
        if (missing > 0) != (change > 0):
            change = 0
        given += change
        sizes.append(each.replicas + change)
    sizes[0] = max(sizes[0] + missing - given, 0)
    return [
        Scale(each, size)
        for each, size in zip(ordered, sizes, strict=True)
        if size != each.replicas
    ]


def _share(deployment: Deployment, replica_set: ReplicaSet) -> int:
    """By how much a ReplicaSet changes if it keeps its part of the whole."""
    if deployment.replicas == 0:
        return -replica_set.replicas
    before = replica_set.noted(MAX_REPLICAS) or deployment.status.get("replicas") or 0
    if before <= 0:
        return 0
    size = replica_set.replicas * deployment.max_replicas / before
    return math.floor(size + 0.5) - replica_set.replicas
