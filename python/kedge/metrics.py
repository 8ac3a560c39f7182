# SPDX-License-Identifier: Apache-2.0
"""Counters and gauges of a process, kept as plain numbers and rendered as Prometheus text.

Nothing here listens: a role that serves metrics asks for ``render``. A metric is one or the other;
names end in ``_total`` for counters.
"""

from __future__ import annotations

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


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
