# SPDX-License-Identifier: Apache-2.0
"""Quantities of a container turned into what Linux takes: shares, quota, bytes, OOM score; pure.

The numbers follow the kubelet: 1024 shares and a period of 100 ms per CPU, OOM scores by QoS class.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CPU_PERIOD_MICROSECONDS = 100_000
MIN_QUOTA_MICROSECONDS = 1_000
MIN_SHARES, MAX_SHARES = 2, 262_144

_QUANTITY = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)")
_NANO = 10**9
_SCALES = {
    None: _NANO, "n": 1, "u": 10**3, "m": 10**6,
    "k": _NANO * 10**3, "M": _NANO * 10**6, "G": _NANO * 10**9,
    "T": _NANO * 10**12, "P": _NANO * 10**15, "E": _NANO * 10**18,
    "Ki": _NANO * 2**10, "Mi": _NANO * 2**20, "Gi": _NANO * 2**30,
    "Ti": _NANO * 2**40, "Pi": _NANO * 2**50, "Ei": _NANO * 2**60,
}  # fmt: skip


def nano(text: str | float) -> int:
    """A Kubernetes quantity in billionths, exact, without a decimal library's memory.

    Raises:
        ValueError: not a quantity.
    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None or not (match[2] or match[3]) or len(str(text)) > 40:
        raise ValueError(f"not a quantity: {text}")
    sign, whole, fraction, exponent, suffix = match.groups()
    digits = int(f"{whole}{fraction or ''}" or 0) * _SCALES[suffix]
    power = int(exponent or 0) - len(fraction or "")
    value: int = digits * 10**power if power >= 0 else digits // 10**-power
    return -value if sign == "-" else value


def whole(text: str | float) -> int:
    """A quantity in whole units, rounded up.

    Raises:
        ValueError: not a quantity.
    """
    return -(-nano(text) // _NANO)


def linux_resources(pod_class: str, container: dict[str, Any], node_memory: int) -> dict[str, Any]:
    """The runtime's ``LinuxContainerResources``.

    Args:
        pod_class: the pod's QoS class.
        container: its spec.
        node_memory: bytes of the node, for the OOM score of burstable pods.

    Raises:
        ValueError: a quantity cannot be read.
    """
    asked = container.get("resources") or {}
    limits, requests = asked.get("limits") or {}, asked.get("requests") or {}
    result: dict[str, Any] = {}
    cpu_request = requests.get("cpu", limits.get("cpu"))
    shares = nano(cpu_request) * 1024 // _NANO if cpu_request is not None else MIN_SHARES
    result["cpu_shares"] = min(max(shares, MIN_SHARES), MAX_SHARES)
    if limits.get("cpu") is not None and nano(limits["cpu"]) > 0:
        result["cpu_period"] = CPU_PERIOD_MICROSECONDS
        result["cpu_quota"] = max(
            nano(limits["cpu"]) * CPU_PERIOD_MICROSECONDS // _NANO, MIN_QUOTA_MICROSECONDS
        )
    if limits.get("memory") is not None:
        result["memory_limit_in_bytes"] = whole(limits["memory"])
    memory_request = whole(requests.get("memory", limits.get("memory", 0)))
    result["oom_score_adj"] = oom_score(pod_class, memory_request, node_memory)
    return result


def oom_score(pod_class: str, memory_request: int, node_memory: int) -> int:
    """How readily the kernel picks the container when memory runs out."""
    if pod_class == "Guaranteed":
        return -997
    if pod_class == "BestEffort" or node_memory <= 0:
        return 1000
    return min(max(1000 - 1000 * memory_request // node_memory, 3), 999)


def field_value(
    container: dict[str, Any], resource: str, divisor: str | None, allocatable: Mapping[str, str]
) -> str:
    """What ``resourceFieldRef`` gives: a limit or request over a divisor, rounded up.

    Raises:
        ValueError: no such field, or a quantity that cannot be read.
    """
    kind, _, name = resource.partition(".")
    if kind not in ("limits", "requests") or name not in ("cpu", "memory", "ephemeral-storage"):
        raise ValueError(f"unsupported resource: {resource}")
    values = (container.get("resources") or {}).get(kind) or {}
    default = allocatable.get(name, "0") if kind == "limits" else "0"
    by = nano(divisor) if divisor else 0
    return str(-(-nano(values.get(name, default)) // (by or _NANO)))
