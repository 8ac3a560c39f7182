# SPDX-License-Identifier: Apache-2.0
"""What a DaemonSet creates and deletes now. Pure.

First every node has its pod: one where it belongs, none where it does not. Then, under
RollingUpdate, pods of older templates are replaced: without a surge by deleting them, as many at a
time as may be unavailable; with one by starting the new pod beside the old. A node out of reach does
not use up that number, and so never holds up the others: its old pod is marked for deletion and goes
when the node is back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.cluster.machinery.revisions import POD_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kedge.cluster.controllers.daemon_sets.placement import Place
    from kedge.cluster.machinery.records import Pod

BURST = 250
"""The most pods that one turn creates or deletes."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How older pods are replaced."""

    rolling: bool
    max_unavailable: int
    max_surge: int


@dataclass(frozen=True, slots=True)
class OnNode:
    """A node and the DaemonSet's pods on it (or pinned to it)."""

    name: str
    place: Place
    reachable: bool
    pods: tuple[Pod, ...]


@dataclass(slots=True)
class Plan:
    """Pods to create, by node, and to delete."""

    create: list[str] = field(default_factory=list)
    delete: list[Pod] = field(default_factory=list)
    failed: list[Pod] = field(default_factory=list)
    """Those of ``delete`` that go because they failed."""


def strategy_of(spec: Mapping[str, Any], desired: int) -> Strategy:
    """Reads ``updateStrategy``; percentages are of the nodes that should run a pod, rounded up."""
    update = spec.get("updateStrategy") or {}
    if update.get("type") == "OnDelete":
        return Strategy(rolling=False, max_unavailable=0, max_surge=0)
    rolling = update.get("rollingUpdate") or {}
    surge = _count(rolling.get("maxSurge", 0), desired)
    unavailable = _count(rolling.get("maxUnavailable", 1), desired)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Strategy(rolling=True, max_unavailable=unavailable, max_surge=surge)


def _count(value: int | str | None, total: int) -> int:
    if isinstance(value, str):
        digits = value.removesuffix("%")
        return -(-total * int(digits) // 100) if digits.isdigit() else 0
    return max(value or 0, 0)


@dataclass(slots=True)
class _Node:
    """One node's pods, sorted by template."""

    on: OnNode
    old: Pod | None
    new: Pod | None


class Planner:
    """Makes one plan.

    Args:
        digest: the present template's hash.
        strategy: how older pods are replaced.
        min_ready_seconds: how long a pod must have been ready to be available.
        now: epoch seconds.
    """

    def __init__(self, digest: str, strategy: Strategy, min_ready_seconds: int, now: float) -> None:
        self._digest = digest
        self._strategy = strategy
        self._min_ready = min_ready_seconds
        self._now = now
        self._plan = Plan()

    def plan(self, nodes: Sequence[OnNode]) -> Plan:
        """What to do about all nodes."""
        settled = [self._node(each) for each in nodes]
        if self._strategy.rolling:
            rolling = [each for each in settled if each is not None]
            if self._strategy.max_surge:
                self._surge(rolling)
            else:
                self._replace(rolling)
        plan = self._plan
        return Plan(plan.create[:BURST], plan.delete[:BURST], plan.failed[:BURST])

    def _node(self, on: OnNode) -> _Node | None:
        """One node's pods, once each node has at most one of a template; None if it has to settle."""
        failed = [pod for pod in on.pods if pod.phase == "Failed" and not pod.deleted]
        self._plan.failed += failed
        self._plan.delete += failed
        pods = [pod for pod in on.pods if pod.phase != "Failed" or pod.deleted]
        if not on.place.may_stay:
            self._plan.delete += [pod for pod in pods if not pod.deleted]
            return None
        old = self._one([pod for pod in pods if pod.labels.get(POD_LABEL) != self._digest])
        new = self._one([pod for pod in pods if pod.labels.get(POD_LABEL) == self._digest])
        if old is None and new is None:
            if on.place.should_run and not on.pods:
                self._plan.create.append(on.name)
            return _Node(on, None, None)
        if old is not None and new is not None and not self._strategy.max_surge:
            self._drop(old)
        return _Node(on, old, new)

    def _one(self, pods: list[Pod]) -> Pod | None:
        """The pod to keep of several alike: one that stays, ready, and the oldest."""
        if not pods:
            return None
        ordered = sorted(
            pods, key=lambda pod: (pod.deleted, not pod.node, not pod.ready, pod.created, pod.name)
        )
        for extra in ordered[1:]:
            self._drop(extra)
        return ordered[0]

    def _drop(self, pod: Pod) -> None:
        if not pod.deleted:
            self._plan.delete.append(pod)

    def _available(self, pod: Pod | None) -> bool:
        return pod is not None and not pod.deleted and pod.available(self._min_ready, self._now)

    def _replace(self, nodes: Sequence[_Node]) -> None:
        """Deletes old pods: those that are not available at once, others as far as allowed."""
        unavailable = 0
        candidates: list[Pod] = []
        for each in nodes:
            if not each.on.reachable:
                if each.old is not None and each.new is None:
                    self._drop(each.old)
            elif each.old is None or each.new is not None:
                unavailable += int(each.on.place.should_run and not self._available(each.new))
            elif not self._available(each.old):
                self._drop(each.old)
                unavailable += 1
            else:
                candidates.append(each.old)
        for pod in candidates[: max(self._strategy.max_unavailable - unavailable, 0)]:
            self._drop(pod)

    def _surge(self, nodes: Sequence[_Node]) -> None:
        """Starts new pods beside old ones, and deletes the old once the new are available."""
        surging = 0
        candidates: list[str] = []
        for each in nodes:
            if each.old is None:
                continue
            if each.new is not None:
                if self._available(each.new) or not self._available(each.old):
                    self._drop(each.old)
                surging += int(each.on.reachable and not self._available(each.new))
            elif not each.on.reachable or each.old.deleted:
                self._drop(each.old)
            elif not self._available(each.old):
                self._plan.create.append(each.on.name)
            else:
                candidates.append(each.on.name)
        self._plan.create += candidates[: max(self._strategy.max_surge - surging, 0)]
