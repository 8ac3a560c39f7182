# SPDX-License-Identifier: Apache-2.0
"""What to do about a StatefulSet's pods now. Pure.

First the pods that should be there, in order; then those that are too many, the highest first; then,
under RollingUpdate, those of older templates, the highest first. In an ordered set each step waits
until all before it is available, so a plan has at most one pod to create or to take away for being
too many. A parallel set does all at once. Pods of a node out of reach are not available: an ordered
set waits for them, and never makes a second pod of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.cluster.machinery.revisions import POD_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kedge.cluster.controllers.stateful_sets.model import StatefulSet
    from kedge.cluster.machinery.records import Pod

BURST = 500
"""The most steps that one turn begins with."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make the pod of an ordinal, with its claims."""

    ordinal: int
    revision: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a pod."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Provide:
    """Make the claims that a pending pod lacks."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Mend:
    """Give a pod its labels, or its claims their owners."""

    pod: Pod


Step = Create | Delete | Provide | Mend


@dataclass(frozen=True, slots=True)
class Member:
    """A pod of the set."""

    ordinal: int
    pod: Pod
    fits: bool = True
    """It has its name's labels, and its claims have the owners that they should have."""
    lacks: bool = False
    """A claim of it is missing, or on its way out."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """Names of the revision that pods had before, and of the one that they are to have."""

    current: str
    update: str


class Planner:
    """Makes one plan.

    Args:
        stateful_set: what is wanted.
        revisions: of its template.
        now: epoch seconds.
        is_stale: tells of an ordinal whether its claims still belong to a pod that has gone; it waits.
    """

    def __init__(
        self,
        stateful_set: StatefulSet,
        revisions: Revisions,
        now: float,
        is_stale: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._set = stateful_set
        self._revisions = revisions
        self._now = now
        self._is_stale = is_stale

    def plan(self, members: Sequence[Member]) -> list[list[Step]]:
        """Steps in phases: a phase begins when the one before has been done.

        Args:
            members: the set's pods, one of an ordinal.
        """
        wanted = {each.ordinal: each for each in members if self._set.wants(each.ordinal)}
        condemned = sorted(
            (each for each in members if not self._set.wants(each.ordinal)),
            key=lambda each: -each.ordinal,
        )
        first, blocked = self._replicas(wanted)
        if blocked:
            return [first] if first else []
        mended: list[Step] = [
            Mend(each.pod) for each in condemned if not each.fits and not each.pod.deleted
        ]
        down, blocked = self._scale_down(wanted, condemned)
        phases = [first, mended, down]
        if not blocked and self._set.is_rolling:
            phases.append(self._update(wanted))
        return [steps for steps in phases if steps]

    def _replicas(self, wanted: dict[int, Member]) -> tuple[list[Step], bool]:
        """Steps about the pods that should be there, and whether the rest has to wait for them."""
        steps: list[Step] = []
        for ordinal in range(self._set.start, self._set.start + self._set.replicas):
            member = wanted.get(ordinal)
            if member is None:
                if not self._is_stale(ordinal):
                    steps.append(Create(ordinal, self._revision_for(ordinal)))
            else:
                steps += self._member(member)
            if self._set.is_ordered and (member is None or not self._is_available(member.pod)):
                return steps, True
            if len(steps) >= BURST:
                return steps, True
        return steps, False

    def _member(self, member: Member) -> list[Step]:
        pod = member.pod
        if pod.finished:
            return [] if pod.deleted else [Delete(pod)]
        steps: list[Step] = []
        if pod.phase == "Pending" and member.lacks and not pod.deleted:
            steps.append(Provide(pod))
        if not member.fits and (not self._set.is_ordered or self._is_available(pod)):
            steps.append(Mend(pod))
        return steps

    def _scale_down(
        self, wanted: dict[int, Member], condemned: list[Member]
    ) -> tuple[list[Step], bool]:
        if not self._set.is_ordered:
            return [Delete(each.pod) for each in condemned if not each.pod.deleted], False
        ascending = [*wanted.values(), *reversed(condemned)]
        unavailable = next((each for each in ascending if not self._is_available(each.pod)), None)
        for each in condemned:
            waits = each.pod.deleted or (
                not self._is_available(each.pod) and each is not unavailable
            )
            return ([] if waits else [Delete(each.pod)]), True
        return [], False

    def _update(self, wanted: dict[int, Member]) -> list[Step]:
        """Deletes pods of older templates, as many as may be unavailable; a parallel set's broken ones all."""
        available = sum(self._is_available(each.pod) for each in wanted.values())
        budget = self._set.max_unavailable - (self._set.replicas - available)
        lowest = self._set.start + (self._set.partition or 0)
        old = [
            wanted[ordinal].pod
            for ordinal in sorted(wanted, reverse=True)
            if ordinal >= lowest and self._is_old(wanted[ordinal].pod)
        ]
        broken = [pod for pod in old if not self._is_available(pod)]
        good = [pod for pod in old if self._is_available(pod)]
        steps: list[Step] = [] if self._set.is_ordered else [Delete(pod) for pod in broken]
        steps += [Delete(pod) for pod in good[: max(budget, 0)]]
        return steps

    def _is_old(self, pod: Pod) -> bool:
        """Finished pods are replaced in any case."""
        return pod.active and pod.labels.get(POD_LABEL) != self._revisions.update

    def _is_available(self, pod: Pod) -> bool:
        return (
            not pod.deleted
            and pod.phase == "Running"
            and pod.available(self._set.min_ready_seconds, self._now)
        )

    def _revision_for(self, ordinal: int) -> str:
        """Below the partition, or where no more was updated yet, a lost pod comes back as it was."""
        if self._set.partition is not None:
            kept = self._set.partition
        else:
            kept = self._set.current_replicas if self._set.is_rolling else 0
        is_kept = ordinal < self._set.start + kept
        return self._revisions.current if is_kept else self._revisions.update
