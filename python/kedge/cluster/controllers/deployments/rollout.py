# SPDX-License-Identifier: Apache-2.0
"""The heart of a Deployment: ``decide`` what to do next about its ReplicaSets. Pure.

A rolling update holds two bounds at every step: the pods wanted in all never exceed replicas +
maxSurge, and an old ReplicaSet is only shrunk by pods that were never available or by as many
available ones as there are above replicas - maxUnavailable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedge.cluster.controllers.deployments import history, scaling, status
from kedge.cluster.controllers.deployments.model import Decision, Deployment, ReplicaSet, Scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.cluster.machinery.wire import Object


def decide(
    deployment_object: Object, replica_sets: Sequence[Object], *, old_pods: bool, now: float
) -> Decision:
    """Decides the next step of a Deployment.

    Args:
        deployment_object: the stored Deployment.
        replica_sets: the stored ReplicaSets that it controls.
        old_pods: whether pods of other templates than the present one still run (Recreate waits
            for them).
        now: epoch seconds.
    """
    deployment = Deployment.of(deployment_object)
    every = [ReplicaSet.of(each) for each in replica_sets]
    new, old = history.split(deployment, every)
    decision = Decision()
    if not deployment_object["metadata"].get("deletionTimestamp"):
        _steps(decision, deployment, new, old, old_pods=old_pods)
    status.decide(decision, deployment, new, old, now)
    return decision


def _steps(
    decision: Decision,
    deployment: Deployment,
    new: ReplicaSet | None,
    old: Sequence[ReplicaSet],
    *,
    old_pods: bool,
) -> None:
    if new is not None:
        patch, decision.revision = history.catch_up(deployment, new, old)
        if patch:
            decision.annotate.append((new, patch))
    every = [*old, *([new] if new else [])]
    if deployment.paused or scaling.is_scaling(deployment, every):
        decision.scale = scaling.scale(deployment, new, old)
        _note_sizes(decision, deployment, old)
    elif deployment.recreate:
        _recreate(decision, deployment, new, old, old_pods=old_pods)
    else:
        _roll(decision, deployment, new, old)
    through = status.is_complete(deployment, status.counts(deployment, new, old))
    if deployment.paused or (new is not None and through):
        decision.delete = history.forgettable(deployment, old)


def _note_sizes(decision: Decision, deployment: Deployment, old: Sequence[ReplicaSet]) -> None:
    """Active old ReplicaSets learn the new size, else every look would see a scaling."""
    for each in old:
        annotations = history.size_annotations(deployment, each)
        if each.replicas > 0 and annotations:
            decision.annotate.append((each, {"metadata": {"annotations": annotations}}))


def _recreate(
    decision: Decision,
    deployment: Deployment,
    new: ReplicaSet | None,
    old: Sequence[ReplicaSet],
    *,
    old_pods: bool,
) -> None:
    running = [each for each in old if each.replicas > 0]
    if running:
        decision.scale = [Scale(each, 0) for each in running]
    elif old_pods:
        return
    elif new is None:
        decision.create = history.new_replica_set(deployment, old, deployment.replicas)
    elif new.replicas != deployment.replicas:
        decision.scale = [Scale(new, deployment.replicas)]


def _roll(
    decision: Decision, deployment: Deployment, new: ReplicaSet | None, old: Sequence[ReplicaSet]
) -> None:
    if new is None:
        replicas = _new_size(deployment, 0, sum(each.replicas for each in old))
        decision.create = history.new_replica_set(deployment, old, replicas)
        return
    total = new.replicas + sum(each.replicas for each in old)
    size = _new_size(deployment, new.replicas, total)
    if size != new.replicas:
        decision.scale = [Scale(new, size)]
    else:
        decision.scale = _shrink_old(deployment, new, old)


def _new_size(deployment: Deployment, present: int, total: int) -> int:
    """How many pods the new ReplicaSet may have now."""
    if present >= deployment.replicas:
        return deployment.replicas
    room = max(deployment.max_replicas - total, 0)
    return present + min(room, deployment.replicas - present)


def _shrink_old(deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> list[Scale]:
    """Takes away old pods: those that are not available first, then as many as can be spared."""
    total = new.replicas + sum(each.replicas for each in old)
    unavailable_new = max(new.replicas - new.available, 0)
    budget = total - deployment.min_available - unavailable_new
    if budget <= 0:
        return []
    sizes = {each.name: each.replicas for each in old}
    cleaned = 0
    for each in old:
        gone = min(budget - cleaned, max(each.replicas - each.available, 0))
        sizes[each.name] -= gone
        cleaned += gone
    available = sum(min(each.available, each.replicas) for each in (new, *old))
    spare = available - deployment.min_available
    for each in old:
        gone = max(min(spare, budget - cleaned, sizes[each.name]), 0)
        sizes[each.name] -= gone
        cleaned += gone
        spare -= gone
    return [Scale(each, sizes[each.name]) for each in old if sizes[each.name] != each.replicas]
