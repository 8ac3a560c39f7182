# SPDX-License-Identifier: Apache-2.0
"""Counters and gauges of a process, kept as plain numbers and rendered as Prometheus text.

Nothing here listens: a role that serves metrics asks for ``render``.
"""

from __future__ import annotations

from collections import defaultdict

_values: defaultdict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)


def count(name: str, amount: float = 1.0, **labels: str) -> None:
    """Adds ``amount`` to a counter."""
    _values[name, tuple(sorted(labels.items()))] += amount


def gauge(name: str, value: float, **labels: str) -> None:
    """Sets a gauge."""
    _values[name, tuple(sorted(labels.items()))] = value


def render() -> str:
    """All values in the Prometheus text format."""
    lines = []
    for (name, labels), value in sorted(_values.items()):
        inner = ",".join(f'{key}="{text}"' for key, text in labels)
        lines.append(f"{name}{{{inner}}} {value:g}" if inner else f"{name} {value:g}")
    return "\n".join(lines) + "\n"
