# SPDX-License-Identifier: Apache-2.0
"""How long a Job waits before it replaces pods that failed: twice as long after each failure. Pure.

A Job's own count is of failures since its last success; it is held in memory and begins anew when
the controller does. Where an index has a limit of its own, its pods carry the count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.cluster.controllers.jobs.policies import ended_at, failures_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.machinery.records import Pod

FIRST_SECONDS = 10.0
MOST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures since the last success, and when the last one was."""

    failures: int = 0
    last: float = 0.0

    def after(self, succeeded: Iterable[Pod], failed: Iterable[Pod]) -> Backoff:
        """The record once these pods have ended too."""
        ends = sorted(ended_at(pod) for pod in failed)
        last_success = max((ended_at(pod) for pod in succeeded), default=None)
        if last_success is None:
            return Backoff(self.failures + len(ends), ends[-1]) if ends else self
        later = [end for end in ends if end > last_success]
        return Backoff(len(later), later[-1]) if later else Backoff()

    def remaining(self, now: float) -> float:
        """Seconds until pods are created again."""
        return _remaining(self.failures, self.last, now)


def remaining_of_index(last: Pod | None, now: float) -> float:
    """Seconds until an index gets another pod, by its last failed one."""
    return _remaining(failures_of(last) + 1, ended_at(last), now) if last is not None else 0.0


def _remaining(failures: int, last: float, now: float) -> float:
    if failures <= 0:
        return 0.0
    wait: float = min(FIRST_SECONDS * 2.0 ** min(failures - 1, 10), MOST_SECONDS)
    return max(wait - (now - last), 0.0)
