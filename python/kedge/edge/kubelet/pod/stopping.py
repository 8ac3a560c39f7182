# SPDX-License-Identifier: Apache-2.0
"""In which order a pod's containers end, and how long each has; pure.

Regular and ephemeral containers, and initial ones that still run, end first and at once, each with
the whole grace. Sidecars follow when those are gone, the last one started first, in what is left of
the same grace; a sidecar always gets ``MINIMUM_SECONDS``, unless there is no grace at all. Stop hooks
of sidecars run from the beginning, as the kubelet has it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kedge.edge.kubelet.pod import lifecycle

if TYPE_CHECKING:
    from kedge.edge.kubelet.pod.state import Container, Pod

MINIMUM_SECONDS = 2
"""What is left for TERM when a hook or other containers used the grace up."""


def turn(pod: Pod, alive: list[Container]) -> list[Container]:
    """Of the containers that run, those whose turn it is to be stopped."""
    order = [one["name"] for one in lifecycle.sidecars(pod)]
    others = [one for one in alive if one.name not in order]
    if others or not alive:
        return others
    last = max(alive, key=lambda one: order.index(one.name))
    return [one for one in alive if one.name == last.name]


def seconds_left(pod: Pod, name: str, grace: int, ending_since: float, now: float) -> int:
    """How long a container has between TERM and KILL when its turn comes now.

    Args:
        pod: its object.
        name: the container's.
        grace: of the whole pod.
        ending_since: when the pod's end began; 0 when it begins now.
        now: seconds since the epoch.
    """
    if not ending_since or all(one["name"] != name for one in lifecycle.sidecars(pod)):
        return grace
    return remaining(grace, now - ending_since)


def remaining(grace: int, used_seconds: float) -> int:
    """What is left of a grace; never less than the minimum, if there was any."""
    return max(min(grace, MINIMUM_SECONDS), math.ceil(grace - used_seconds))


def waiting_hooks(pod: Pod, alive: list[Container], due: list[Container]) -> list[Container]:
    """Sidecars that wait for their turn and have a stop hook to run meanwhile."""
    hooked = {
        one["name"]
        for one in lifecycle.sidecars(pod)
        if (one.get("lifecycle") or {}).get("preStop")
    }
    return [one for one in alive if one.name in hooked and one not in due]
