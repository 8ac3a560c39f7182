# SPDX-License-Identifier: Apache-2.0
"""How long things took on this node, told by ``/metrics`` under the kubelet's names."""

from __future__ import annotations

from kedge.metrics import Histogram

pod_start = Histogram(0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 600)
"""From a pod's arrival on this node to its first moment as Running, in seconds."""


class Relists:
    """Looks at everything that the runtime has (the kubelet's PLEG).

    Attributes:
        durations: of those that succeeded, in seconds.
        intervals: between their beginnings.
        seen_at: when the last one succeeded, in seconds since the epoch; 0 for never.
    """

    def __init__(self) -> None:
        bounds = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
        self.durations = Histogram(*bounds)
        self.intervals = Histogram(*bounds)
        self.seen_at = 0.0
        self._began: float | None = None

    def begin(self, now: float) -> float:
        """One begins, on a clock that does not jump; that time."""
        if self._began is not None:
            self.intervals.add(now - self._began)
        self._began = now
        return now

    def succeed(self, seconds: float, at: float) -> None:
        """It took so long, and ended then."""
        self.durations.add(seconds)
        self.seen_at = at


relists = Relists()
