# SPDX-License-Identifier: Apache-2.0
"""Quantities of a container turned into what Linux takes: shares, quota, bytes, OOM score; pure.

The numbers follow the kubelet: 1024 shares and a period of 100 ms per CPU, OOM scores by QoS class.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Limits(NamedTuple):
    """What a cgroup is given. None leaves a file as it is; 0 or less takes a limit away.

    Attributes:
        cpu_shares: its weight, in version 1's shares.
        cpu_quota: microseconds per 100 ms.
        memory_bytes: the most memory.
        pids: the most processes.
        huge_pages: bytes by page size (2MB).
    """

    cpu_shares: int | None = None
    cpu_quota: int | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    huge_pages: Mapping[str, int] = MappingProxyType({})


def shares(cpu: int) -> int:
    """The weight for so many billionths of a CPU."""
    return min(max(cpu * 1024 // _NANO, MIN_SHARES), MAX_SHARES)


def quota(cpu: int) -> int:
    """Microseconds per period for so many billionths of a CPU."""
    return max(cpu * CPU_PERIOD_MICROSECONDS // _NANO, MIN_QUOTA_MICROSECONDS)


def listed(container: dict[str, Any], kind: str) -> dict[str, Any]:
    """A container's (or the pod's own) requests or limits; where only a limit is set it is the request."""
    found = container.get("resources") or {}
    if kind == "limits":
        return found.get("limits") or {}
    return (found.get("limits") or {}) | (found.get("requests") or {})


def pod_amount(pod: dict[str, Any], kind: str, name: str) -> int:
    """What a pod asks for (``requests``) or may use at most (``limits``), in billionths; 0 for nothing.

    Its own resources win over the sum of its containers'; initial containers count while they run,
    sidecars always; its overhead comes on top. A quantity that cannot be read counts as none.
    """
    spec = pod["spec"]
    whole_pod = (spec.get("resources") or {}).get(kind) or {}
    over = _nano_or_none((spec.get("overhead") or {}).get(name))
    if name in whole_pod:
        return _nano_or_none(whole_pod[name]) + over
    total = sum(_nano_or_none(listed(one, kind).get(name)) for one in spec.get("containers") or [])
    peak = beside = 0
    for one in spec.get("initContainers") or []:
        own = _nano_or_none(listed(one, kind).get(name))
        if one.get("restartPolicy") == "Always":
            beside += own
            peak = max(peak, beside)
        else:
            peak = max(peak, beside + own)
    return max(total + beside, peak) + over


def differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two objects of one pod ask for different resources."""
    for field in ("containers", "initContainers"):
        first, second = one["spec"].get(field) or [], other["spec"].get(field) or []
        if [c.get("resources") or {} for c in first] != [c.get("resources") or {} for c in second]:
            return True
    return (one["spec"].get("resources") or {}) != (other["spec"].get("resources") or {})


def reported_differ(pod: dict[str, Any], status: dict[str, Any]) -> bool:
    """Whether a container, or the pod, ran with other resources than wanted when that was reported."""
    if "resources" in status and status["resources"] != (pod["spec"].get("resources") or {}):
        return True
    for containers, statuses in (
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
    ):
        wanted = {one["name"]: one.get("resources") for one in pod["spec"].get(containers) or []}
        for one in status.get(statuses) or []:
            is_known = "resources" in one and one.get("containerID") and one["name"] in wanted
            if is_known and one["resources"] != wanted[one["name"]]:
                return True
    return False


def _nano_or_none(text: Any) -> int:
    try:
        return nano(text) if text is not None else 0
    except ValueError:
        return 0


def pod_limits(
    pod: dict[str, Any], pod_class: str, huge_page_sizes: tuple[str, ...], pids: int
) -> Limits:
    """What a pod's cgroup is given.

    Args:
        pod: its object.
        pod_class: its QoS class.
        huge_page_sizes: of the node, as the kernel calls them (2MB).
        pids: the most processes of a pod; 0 or less for no limit.
    """
    spec = pod["spec"]
    every = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    own = (spec.get("resources") or {}).get("limits") or {}

    def bounded(name: str) -> int:
        """Zero unless every container, or the pod itself, has a limit."""
        is_bounded = name in own or all(
            _nano_or_none(listed(one, "limits").get(name)) for one in every
        )
        return pod_amount(pod, "limits", name) if is_bounded and pod_class != "BestEffort" else 0

    cpu, memory = bounded("cpu"), bounded("memory")
    asked = pod_amount(pod, "requests", "cpu") if pod_class != "BestEffort" else 0
    pages = {
        size: pod_amount(pod, "limits", f"hugepages-{size.removesuffix('B')}i") // _NANO
        for size in huge_page_sizes
    }
    return Limits(
        cpu_shares=shares(asked),
        cpu_quota=quota(cpu) if cpu else -1,
        memory_bytes=-(-memory // _NANO) if memory else -1,
        pids=pids if pids > 0 else None,
        huge_pages=pages,
    )


def linux_resources(
    pod_class: str,
    container: dict[str, Any],
    node_memory: int,
    *,
    pod_level: Mapping[str, Any] | None = None,
    huge_page_sizes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The runtime's ``LinuxContainerResources``.

    Args:
        pod_class: the pod's QoS class.
        container: its spec.
        node_memory: bytes of the node, for the OOM score of burstable pods.
        pod_level: the pod's own resources; its limits hold for a container without any.
        huge_page_sizes: of the node, as the kernel calls them; what is not asked for is forbidden.

    Raises:
        ValueError: a quantity cannot be read.
    """
    asked = container.get("resources") or {}
    limits, requests = asked.get("limits") or {}, asked.get("requests") or {}
    limits = {**((pod_level or {}).get("limits") or {}), **limits}
    result: dict[str, Any] = {}
    own = asked.get("limits") or {}
    result["cpu_shares"] = shares(nano(requests.get("cpu", own.get("cpu", 0))))
    if limits.get("cpu") is not None and nano(limits["cpu"]) > 0:
        result["cpu_period"] = CPU_PERIOD_MICROSECONDS
        result["cpu_quota"] = quota(nano(limits["cpu"]))
    if limits.get("memory") is not None:
        result["memory_limit_in_bytes"] = whole(limits["memory"])
    pages = {
        f"{name.removeprefix('hugepages-').removesuffix('i')}B": whole(value)
        for name, value in own.items()
        if name.startswith("hugepages-")
    }
    if pages or huge_page_sizes:
        sizes = dict.fromkeys(huge_page_sizes, 0) | pages
        result["hugepage_limits"] = [
            {"page_size": size, "limit": limit} for size, limit in sizes.items()
        ]
    memory_request = whole(requests.get("memory", own.get("memory", 0)))
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
