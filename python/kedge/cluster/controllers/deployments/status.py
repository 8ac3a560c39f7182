# SPDX-License-Identifier: Apache-2.0
"""A Deployment's status: counts, and the conditions that ``kubectl rollout status`` waits on. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery import conditions
from kedge.cluster.machinery.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kedge.cluster.controllers.deployments.model import Decision, Deployment, ReplicaSet
    from kedge.cluster.machinery.conditions import Condition

AVAILABLE = "NewReplicaSetAvailable"
DEADLINE = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"

Counts = dict[str, int]


def counts(deployment: Deployment, new: ReplicaSet | None, old: Sequence[ReplicaSet]) -> Counts:
    """The numbers of the status."""
    every = [*old, *([new] if new else [])]
    available = sum(each.available for each in every)
    return {
        "observedGeneration": deployment.stored["metadata"].get("generation") or 0,
        "replicas": sum(each.actual for each in every),
        "updatedReplicas": new.actual if new else 0,
        "readyReplicas": sum(each.ready for each in every),
        "availableReplicas": available,
        "unavailableReplicas": max(sum(each.replicas for each in every) - available, 0),
    }


def is_complete(deployment: Deployment, now: Counts) -> bool:
    """Whether the rollout is through."""
    return (
        now["updatedReplicas"] == deployment.replicas
        and now["replicas"] == deployment.replicas
        and now["availableReplicas"] == deployment.replicas
    )


def decide(
    decision: Decision,
    deployment: Deployment,
    new: ReplicaSet | None,
    old: Sequence[ReplicaSet],
    now: float,
) -> None:
    """Fills in the decision's status and when to look again."""
    numbers = counts(deployment, new, old)
    known: list[Condition] = list(deployment.status.get("conditions") or [])
    known = _progress(decision, deployment, new, numbers, known, now=now)
    known = _availability(deployment, numbers, known, now)
    known = _failures(new, old, known, now)
    status: dict[str, Any] = dict(numbers)
    collisions = deployment.status.get("collisionCount")
    if collisions is not None:
        status["collisionCount"] = collisions
    if known:
        status["conditions"] = known
    decision.status = status
    decision.again_seconds = _again(deployment, numbers, known, now)


def _progress(
    decision: Decision,
    deployment: Deployment,
    new: ReplicaSet | None,
    numbers: Counts,
    known: list[Condition],
    *,
    now: float,
) -> list[Condition]:
    if deployment.deadline_seconds is None:
        return conditions.without(known, "Progressing")

    def progressing(status: str, reason: str, message: str) -> list[Condition]:
        return conditions.with_condition(
            known,
            "Progressing",
            status,
            reason=reason,
            message=message,
            now=now,
            updates=True,
        )

    present = conditions.find(known, "Progressing")
    reason = present.get("reason") if present else None
    if deployment.paused:
        if reason in {PAUSED, DEADLINE}:
            return known
        return progressing("Unknown", PAUSED, "Deployment is paused")
    if reason == PAUSED:
        return progressing("Unknown", "DeploymentResumed", "Deployment is resumed")
    if decision.create is not None:
        name = decision.create["metadata"]["name"]
        return progressing("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
    return _advance(deployment, new, numbers, known, now=now)


def _advance(
    deployment: Deployment,
    new: ReplicaSet | None,
    numbers: Counts,
    known: list[Condition],
    *,
    now: float,
) -> list[Condition]:
    subject = f'ReplicaSet "{new.name}"' if new else f'Deployment "{deployment.name}"'

    def progressing(status: str, reason: str, verb: str) -> list[Condition]:
        return conditions.with_condition(
            known,
            "Progressing",
            status,
            reason=reason,
            message=f"{subject} {verb}.",
            now=now,
            updates=True,
        )

    present = conditions.find(known, "Progressing")
    reason = present.get("reason") if present else None
    if reason == AVAILABLE and numbers["replicas"] == numbers["updatedReplicas"]:
        return known
    if is_complete(deployment, numbers):
        return progressing("True", AVAILABLE, "has successfully progressed")
    if present is None and new is not None:
        message = f'Found new replica set "{new.name}"'
        return conditions.with_condition(
            known,
            "Progressing",
            "True",
            reason="FoundNewReplicaSet",
            message=message,
            now=now,
            updates=True,
        )
    if _moved(deployment.status, numbers):
        return progressing("True", "ReplicaSetUpdated", "is progressing")
    if present is not None and reason != DEADLINE and _is_late(deployment, present, now):
        return progressing("False", DEADLINE, "has timed out progressing")
    return known


def _moved(before: dict[str, Any], numbers: Counts) -> bool:
    """Whether there are more new, fewer old, more ready or more available pods than before."""

    def was(field: str) -> int:
        return before.get(field) or 0

    return (
        numbers["updatedReplicas"] > was("updatedReplicas")
        or numbers["replicas"] - numbers["updatedReplicas"]
        < was("replicas") - was("updatedReplicas")
        or numbers["readyReplicas"] > was("readyReplicas")
        or numbers["availableReplicas"] > was("availableReplicas")
    )


def _is_late(deployment: Deployment, present: Any, now: float) -> bool:
    if deployment.deadline_seconds is None or present.get("reason") in {AVAILABLE, PAUSED}:
        return False
    return _updated(present) + deployment.deadline_seconds < now


def _updated(condition: Any) -> float:
    return seconds_of(condition.get("lastUpdateTime") or condition.get("lastTransitionTime"))


def _availability(
    deployment: Deployment, numbers: Counts, known: list[Condition], now: float
) -> list[Condition]:
    enough = numbers["availableReplicas"] >= deployment.min_available
    status, reason, verb = (
        ("True", "MinimumReplicasAvailable", "has")
        if enough
        else ("False", "MinimumReplicasUnavailable", "does not have")
    )
    present = conditions.find(known, "Available")
    if present is not None and present.get("status") == status and present.get("reason") == reason:
        return known
    message = f"Deployment {verb} minimum availability."
    return conditions.with_condition(
        known, "Available", status, reason=reason, message=message, now=now, updates=True
    )


def _failures(
    new: ReplicaSet | None, old: Sequence[ReplicaSet], known: list[Condition], now: float
) -> list[Condition]:
    """The first ReplicaFailure among the ReplicaSets, the new one's before the others'."""
    for each in [*([new] if new else []), *old]:
        failure = conditions.find(
            (each.stored.get("status") or {}).get("conditions"), "ReplicaFailure"
        )
        if failure is None:
            continue
        present = conditions.find(known, "ReplicaFailure")
        if present is not None and present.get("message") == failure.get("message"):
            return known
        return conditions.with_condition(
            known,
            "ReplicaFailure",
            str(failure.get("status")),
            reason=str(failure.get("reason")),
            message=str(failure.get("message")),
            now=now,
            updates=True,
        )
    return conditions.without(known, "ReplicaFailure")


def _again(
    deployment: Deployment, numbers: Counts, known: list[Condition], now: float
) -> float | None:
    """When the deadline would pass, if the rollout is under way."""
    present = conditions.find(known, "Progressing")
    if deployment.deadline_seconds is None or deployment.paused or present is None:
        return None
    if present.get("reason") in {AVAILABLE, DEADLINE} or is_complete(deployment, numbers):
        return None
    return max(_updated(present) + deployment.deadline_seconds - now, 0.0) + 1.0
