# SPDX-License-Identifier: Apache-2.0
"""What a budget's status says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery.times import seconds_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.cluster.machinery.records import Pod

Object = dict[str, Any]

ALLOWED = "DisruptionAllowed"
DELETION_SECONDS = 120.0
"""How long a pod that was allowed to go counts as gone."""


@dataclass(frozen=True, slots=True)
class Disrupted:
    """Pods that somebody is about to end."""

    pods: dict[str, str]
    """When, by name."""
    overdue: tuple[str, ...]
    """Those that should be gone and are not."""
    next_seconds: float | None
    """When the next one will be overdue."""


def scaled(amount: int | str, total: int) -> int:
    """A number, or a part of a total rounded up."""
    if isinstance(amount, int):
        return amount
    return -(-int(amount.removesuffix("%")) * total // 100)


def needs_scale(spec: Object) -> bool:
    """Whether it matters how many pods there should be, not only how many there are."""
    return "maxUnavailable" in spec or isinstance(spec.get("minAvailable"), str)


def wanted(spec: Object, present: int, expected: int) -> tuple[int, int]:
    """How many pods are expected, and how many have to be healthy.

    Args:
        spec: the budget's.
        present: how many pods it selects.
        expected: how many their owners want.
    """
    if "maxUnavailable" in spec:
        return expected, max(expected - scaled(spec["maxUnavailable"], expected), 0)
    least = spec.get("minAvailable")
    if least is None:
        return 0, 0
    if isinstance(least, int):
        return present, least
    return expected, scaled(least, expected)


def disrupted(pods: Iterable[Pod], before: Mapping[str, str], now: float) -> Disrupted:
    """Who of the pods that were allowed to go is still on the way."""
    kept: dict[str, str] = {}
    overdue: list[str] = []
    waits: list[float] = []
    for pod in pods:
        if pod.deleted or pod.name not in before:
            continue
        due = seconds_of(before[pod.name]) + DELETION_SECONDS
        if due < now:
            overdue.append(pod.name)
        else:
            kept[pod.name] = before[pod.name]
            waits.append(due - now)
    return Disrupted(kept, tuple(overdue), max(min(waits), 0.1) if waits else None)


def healthy(pods: Iterable[Pod], leaving: Mapping[str, str]) -> int:
    """How many pods are ready and not about to go."""
    return sum(pod.ready and not pod.deleted and pod.name not in leaving for pod in pods)


def status_of(
    budget: Object, counts: tuple[int, int, int], leaving: Mapping[str, str], now: float
) -> Object:
    """A budget's status.

    Args:
        budget: as stored.
        counts: pods that are healthy, that have to be, and that are expected.
        leaving: when pods were allowed to go, by name.
        now: epoch seconds.
    """
    current, desired, expected = counts
    allowed = max(current - desired, 0) if expected > 0 else 0
    generation = budget["metadata"].get("generation", 1)
    before = budget.get("status") or {}
    status: Object = {
        "currentHealthy": current,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "observedGeneration": generation,
    }
    if leaving:
        status["disruptedPods"] = dict(leaving)
    reason = "SufficientPods" if allowed else "InsufficientPods"
    status["conditions"] = with_condition(
        before.get("conditions") or [],
        is_true=bool(allowed),
        reason=reason,
        message="",
        generation=generation,
        now=now,
    )
    return status


def failed(budget: Object, message: str, now: float) -> Object:
    """A budget's status when its figures cannot be known: nobody may be evicted."""
    before = dict(budget.get("status") or {})
    before["disruptionsAllowed"] = 0
    before["conditions"] = with_condition(
        before.get("conditions") or [],
        is_true=False,
        reason="SyncFailed",
        message=message,
        generation=before.get("observedGeneration", 0),
        now=now,
    )
    return before


def with_condition(
    conditions: list[Object],
    *,
    is_true: bool,
    reason: str,
    message: str,
    generation: int,
    now: float,
) -> list[Object]:
    """The conditions with ``DisruptionAllowed`` set."""
    status = "True" if is_true else "False"
    old = next((one for one in conditions if one.get("type") == ALLOWED), {})
    moved = old.get("status") != status
    condition: Object = {
        "type": ALLOWED,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": text_of(now) if moved else old.get("lastTransitionTime"),
    }
    if generation:
        condition["observedGeneration"] = generation
    if not old:
        return [*conditions, condition]
    return [condition if one is old else one for one in conditions]
