# SPDX-License-Identifier: Apache-2.0
"""What the metrics APIs answer, as figures per pod. Pure.

Everything is counted in thousandths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kedge.api import quantities
from kedge.cluster.machinery.times import seconds_of
from kedge.errors import BadRequest

Object = dict[str, Any]

DEFAULT_WINDOW = 60.0
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9.]+)(h|ms|us|µs|ns|m|s)")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a pod used.

    Attributes:
        value: in thousandths.
        time: when it was measured.
        window: over how many seconds.
    """

    value: int
    time: float = 0.0
    window: float = DEFAULT_WINDOW


def of_pods(items: list[Object], resource: str, container: str = "") -> dict[str, Sample]:
    """A resource's use by pod, out of ``PodMetrics``; a pod with a gap is left out.

    Args:
        items: as ``metrics.k8s.io`` lists them.
        resource: such as ``cpu``.
        container: only this one of each pod, if given.
    """
    found: dict[str, Sample] = {}
    for item in items:
        containers = item.get("containers") or []
        if container:
            containers = [one for one in containers if one.get("name") == container][:1]
        used = [(one.get("usage") or {}).get(resource) for one in containers]
        if used and None not in used:
            value = sum(quantities.milli(str(one)) for one in used)
            found[item["metadata"]["name"]] = Sample(
                value, seconds_of(item.get("timestamp")), duration(item.get("window"))
            )
    return found


def of_values(items: list[Object]) -> dict[str, Sample]:
    """A metric of a user's by pod, out of ``MetricValue``."""
    return {
        item["describedObject"]["name"]: Sample(
            quantities.milli(str(item.get("value", "0"))),
            seconds_of(item.get("timestamp")),
            float(item.get("windowSeconds") or DEFAULT_WINDOW),
        )
        for item in items
    }


def duration(text: str | None) -> float:
    """The seconds of a Go duration, such as ``1m30s``."""
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text or ""))


def quantity(resource: str, value: int) -> str:
    """A figure in thousandths as a quantity; memory in whole bytes and powers of two."""
    if resource != "memory":
        return quantities.canonical(f"{value}m")
    size = -(-value // 1000)
    return quantities.canonical(f"{size >> 10}Ki") if size and size % 1024 == 0 else str(size)


def milli(text: object) -> int:
    """A target in thousandths.

    Raises:
        BadRequest: it is no quantity.
    """
    if not isinstance(text, str | int):
        raise BadRequest(f"wanted a quantity, got: {text!r}")
    return quantities.milli(str(text))
