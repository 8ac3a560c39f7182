# SPDX-License-Identifier: Apache-2.0
"""Which pod goes first when a resource runs short, and what is said of it, as the kubelet has it; pure.

Memory and disk: pods that use more than they asked for before the others, then lower priority
first, then the most over its request first. Process ids: priority, then the number of processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.pressure.decide import Usage
from kedge.edge.kubelet.pressure.thresholds import SIGNALS, Threshold
from kedge.edge.kubelet.resources import resources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.edge.kubelet.pod.state import Pod
    from kedge.edge.kubelet.pressure.decide import Reading

_NANO = 10**9
_UNITS = ((1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki"))


def rank(pods: Iterable[Pod], usages: Mapping[str, Usage], resource: str) -> list[Pod]:
    """Pods in the order in which they would be evicted; critical ones are not among them.

    Args:
        pods: all that run.
        usages: by pod UID; a pod without one is taken to use nothing.
        resource: memory, ephemeral-storage, inodes or pids.
    """

    def order(pod: Pod) -> tuple[bool, int, int]:
        used = usages.get(pod["metadata"]["uid"], Usage()).total
        priority = int(pod["spec"].get("priority") or 0)
        if resource == "pids":
            return True, priority, -used
        asked = _asked(pod, resource)
        return used <= asked, priority, asked - used

    return sorted((one for one in pods if not lifecycle.is_critical(one)), key=order)


def _asked(pod: Pod, resource: str) -> int:
    if resource == "inodes":
        return 0
    return -(-resources.pod_amount(pod, "requests", resource) // _NANO)


def message(pod: Pod, threshold: Threshold, reading: Reading, usage: Usage) -> str:
    """Why a pod was evicted, in the kubelet's words."""
    resource = SIGNALS[threshold.signal]
    least = threshold.least.of(reading.capacity)
    is_bytes = resource in ("memory", "ephemeral-storage")
    shown = binary if is_bytes else str
    parts = [
        f"The node was low on resource: {resource}. ",
        f"Threshold quantity: {shown(least)}, available: {shown(reading.available)}. ",
    ]
    if is_bytes:
        for container in lifecycle.every_container(pod):
            used = usage.containers.get(container["name"])
            asked = resources.listed(container, "requests").get(resource, "0")
            if used is not None and used * _NANO > resources.nano(asked):
                parts.append(
                    f"Container {container['name']} was using {binary(used)}, request is {asked}, "
                    f"has larger consumption of {resource}. "
                )
    return "".join(parts)


def binary(amount: int) -> str:
    """A number of bytes in the largest unit of 1024 that leaves four digits or less."""
    for size, suffix in _UNITS:
        if amount >= 4 * size or (amount >= size and amount % size == 0):
            return f"{amount // size}{suffix}"
    return str(amount)


def limit_exceeded(
    pod: Pod, containers: Mapping[str, int], volumes: Mapping[str, int], total: int
) -> tuple[str, str]:
    """Which of its own limits of local storage a pod is over, and why; empty if it keeps to them.

    Args:
        pod: its object.
        containers: bytes of each container's writable layer and logs.
        volumes: bytes of each emptyDir on disk.
        total: bytes of all of it.
    """
    for volume in pod["spec"].get("volumes") or []:
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        used = volumes.get(volume["name"])
        if limit is not None and used is not None and 0 < _bytes(limit) < used:
            text = f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
            return "emptydirfs.limit", text
    for container in lifecycle.every_container(pod):
        limit = resources.listed(container, "limits").get("ephemeral-storage")
        used = containers.get(container["name"])
        if limit is not None and used is not None and used > _bytes(limit):
            text = f'Container {container["name"]} exceeded its local ephemeral storage limit "{limit}". '
            return "ephemeralcontainerfs.limit", text
    allowed = storage_limit(pod)
    if allowed and total > allowed:
        text = "Pod ephemeral local storage usage exceeds the total limit of containers "
        return "ephemeralpodfs.limit", f"{text}{binary(allowed)}. "
    return "", ""


def storage_limit(pod: Pod) -> int:
    """What all of a pod's local storage may take: only if every container has a limit; else 0."""
    every: list[dict[str, Any]] = list(lifecycle.every_container(pod))
    limits = [resources.listed(one, "limits").get("ephemeral-storage") for one in every]
    if any(limit is None for limit in limits):
        return 0
    return -(-resources.pod_amount(pod, "limits", "ephemeral-storage") // _NANO)


def _bytes(text: str) -> int:
    try:
        return resources.whole(text)
    except ValueError:
        return 0
