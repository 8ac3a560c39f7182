# SPDX-License-Identifier: Apache-2.0
"""An autoscaler's status while it is worked on: conditions, figures, and what to tell people. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kedge.cluster.machinery import conditions, events
from kedge.cluster.machinery.times import text_of

Object = dict[str, Any]

ABLE = "AbleToScale"
ACTIVE = "ScalingActive"
LIMITED = "ScalingLimited"


@dataclass(slots=True)
class Draft:
    """A status in the making.

    Attributes:
        before: as it was.
        now: epoch seconds.
        conditions: as they are to be.
        told: Events, each a type, a reason and a message.
    """

    before: Object
    now: float
    conditions: list[Object] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, autoscaler: Object, now: float) -> Draft:
        """One to begin with."""
        before = autoscaler.get("status") or {}
        return cls(before, now, list(before.get("conditions") or ()))

    def say(self, name: str, is_true: bool, reason: str, message: str) -> None:  # noqa: FBT001 - it is the status
        """Sets a condition."""
        self.conditions = conditions.with_condition(
            self.conditions,
            name,
            "True" if is_true else "False",
            reason=reason,
            message=message,
            now=self.now,
        )

    def tell(self, reason: str, message: str, kind: str = events.WARNING) -> None:
        """Tells people something."""
        self.told.append((kind, reason, message))

    def status(
        self, current: int | None, desired: int | None, metrics: list[Object], *, scaled: bool
    ) -> Object:
        """The status.

        Args:
            current: replicas that are asked for of the target; None if that is not known.
            desired: replicas that there are to be; None if that stays as it was.
            metrics: what each metric says.
            scaled: whether the target's number was changed.
        """
        status = dict(self.before)
        if current is not None:
            status["currentReplicas"] = current
            status["currentMetrics"] = metrics
        if desired is not None:
            status["desiredReplicas"] = desired
        status.setdefault("desiredReplicas", 0)
        if not status.get("currentMetrics"):
            status.pop("currentMetrics", None)
        if scaled:
            status["lastScaleTime"] = text_of(self.now)
        status["conditions"] = self.conditions
        return status
