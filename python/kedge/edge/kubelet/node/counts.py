# SPDX-License-Identifier: Apache-2.0
"""How long things took, counted in buckets: a few integers each, written out when somebody asks."""

from __future__ import annotations


class Histogram:
    """A Prometheus histogram without labels.

    Args:
        bounds: upper ends of its buckets, growing.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        at = next((at for at, bound in enumerate(self.bounds) if value <= bound), -1)
        self.counts[at] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        """Its lines in the Prometheus text format."""
        found, below = [f"# TYPE {name} histogram"], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            below += count
            found.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*found, f"{name}_sum {self.total:g}", f"{name}_count {below}"]


pod_start = Histogram(0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 600)
"""From a pod's arrival on this node to its first moment as Running, in seconds."""
