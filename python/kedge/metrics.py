# SPDX-License-Identifier: Apache-2.0
"""Counters and gauges of a process, kept as plain numbers and rendered as Prometheus text.

Nothing here listens: a role that serves metrics asks for ``render``. A metric is one or the other;
names end in ``_total`` for counters, but for those that others named. A ``Histogram`` belongs to whoever counts with it.
"""

from __future__ import annotations

from bisect import bisect_left

_Series = tuple[str, tuple[tuple[str, str], ...]]

_values: dict[_Series, float] = {}
_kinds: dict[str, str] = {}


def count(name: str, amount: float = 1.0, **labels: str) -> None:
    """Adds ``amount`` to a counter."""
    series = (name, tuple(sorted(labels.items())))
    _values[series] = _values.get(series, 0.0) + amount
    _kinds.setdefault(name, "counter")


def gauge(name: str, value: float, **labels: str) -> None:
    """Sets a gauge."""
    _values[name, tuple(sorted(labels.items()))] = value
    _kinds.setdefault(name, "gauge")


def read(name: str, **labels: str) -> float:
    """The present value; zero when nothing was counted yet."""
    return _values.get((name, tuple(sorted(labels.items()))), 0.0)


def render() -> str:
    """All values in the Prometheus text format."""
    lines: list[str] = []
    for (name, labels), value in sorted(_values.items()):
        kind = f"# TYPE {name} {_kinds[name]}"
        if kind not in lines:
            lines.append(kind)
        inner = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
        lines.append(f"{name}{{{inner}}} {value:g}" if inner else f"{name} {value:g}")
    return "\n".join(lines) + "\n"


class Histogram:
    """Values counted in buckets: a few integers, written out when somebody asks.

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
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, **labels: str) -> list[str]:
        """Its lines in the Prometheus text format, without the family's first."""
        found, below = [], 0
        inner = "".join(f'{key}="{_escape(text)}",' for key, text in labels.items())
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            below += count
            found.append(f'{name}_bucket{{{inner}le="{bound}"}} {below}')
        own = f"{{{inner[:-1]}}}" if inner else ""
        return [*found, f"{name}_sum{own} {self.total:g}", f"{name}_count{own} {below}"]


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
