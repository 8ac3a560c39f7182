# SPDX-License-Identifier: Apache-2.0
"""Pods that wait for a node: those to try now, and those that wait for something to change. Pure.

A pod that no node can take is tried again when an event might help, but not sooner than its
backoff since the last try; and after five minutes in any case.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kedge.cluster.machinery.records import Key, Pod

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 10.0
FLUSH_AFTER = 300.0


@dataclass(slots=True)
class _Parked:
    pod: Pod
    since: float
    earliest: float


class Waiting:
    """The queue of the scheduler; times are seconds of any one clock."""

    def __init__(self) -> None:
        self._order: list[tuple[int, float, int, Key]] = []
        self._ready: dict[Key, Pod] = {}
        self._parked: dict[Key, _Parked] = {}
        self._tries: dict[Key, int] = {}
        self._moved: list[tuple[float, Key]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._parked)

    def add(self, pod: Pod) -> None:
        """A pod to try now; a newer version of a waiting one replaces it."""
        key = pod.key
        self._parked.pop(key, None)
        known = key in self._ready
        self._ready[key] = pod
        if not known:
            priority = pod.pending.priority if pod.pending is not None else None
            self._number += 1
            heapq.heappush(self._order, (-(priority or 0), pod.created, self._number, key))

    def refresh(self, pod: Pod) -> None:
        """Takes a newer version of a waiting pod without trying it sooner; tries an unknown one."""
        parked = self._parked.get(pod.key)
        if parked is not None:
            parked.pod = pod
        else:
            self.add(pod)

    def forget(self, key: Key) -> None:
        """The pod needs no node any more."""
        self._ready.pop(key, None)
        self._parked.pop(key, None)
        self._tries.pop(key, None)

    def pop(self) -> Pod | None:
        """The next pod to try: of the highest priority, then the oldest."""
        while self._order:
            key = heapq.heappop(self._order)[-1]
            pod = self._ready.pop(key, None)
            if pod is not None:
                return pod
        return None

    def park(self, pod: Pod, now: float) -> None:
        """A try has failed: the pod waits for an event."""
        tries = self._tries.get(pod.key, 0)
        self._tries[pod.key] = tries + 1
        backoff = min(FIRST_BACKOFF * 2.0 ** min(tries, 16), LONGEST_BACKOFF)
        self._parked[pod.key] = _Parked(pod, now, now + backoff)

    def stir(self, now: float) -> None:
        """Something has changed that might help: parked pods are tried again."""
        for key, parked in list(self._parked.items()):
            if parked.earliest <= now:
                self.add(parked.pod)
            else:
                heapq.heappush(self._moved, (parked.earliest, key))

    def wake(self, now: float) -> float | None:
        """Moves what is due, and tells in how many seconds there is something to try."""
        while self._moved and self._moved[0][0] <= now:
            key = heapq.heappop(self._moved)[1]
            parked = self._parked.get(key)
            if parked is not None:
                self.add(parked.pod)
        for parked in [each for each in self._parked.values() if each.since + FLUSH_AFTER <= now]:
            self.add(parked.pod)
        if self._ready:
            return 0.0
        flushes = (each.since + FLUSH_AFTER for each in self._parked.values())
        due = min([*flushes, *(when for when, _ in self._moved[:1])], default=None)
        return None if due is None else max(due - now, 0.0)
