# SPDX-License-Identifier: Apache-2.0
"""How many replicas a metric asks for. Pure.

The use of pods that have just begun says nothing yet, and of some nothing is known. Going up, those count as
idle; going down, as busy: whatever is not known makes for a smaller step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.api import quantities
from kedge.cluster.machinery.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.cluster.controllers.autoscalers.samples import Sample

Object = dict[str, Any]
Ratio = Callable[[dict[str, int]], float]

INITIALIZATION_SECONDS = 300.0
"""How long a pod may be using the processor only to begin."""
FIRST_READY_SECONDS = 30.0
"""A pod that became not ready so soon was never ready."""
MOST = (1 << 31) - 1


class Unknown(Exception):  # noqa: N818 - as what it says
    """A number cannot be worked out; the message says why."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a ratio may be from one before anything is done."""

    down: float = 0.1
    up: float = 0.1

    def hold(self, ratio: float) -> bool:
        """Whether nothing is to be done."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Scene:
    """What a number is worked out for.

    Attributes:
        pods: those that are scaled.
        wanted: how many replicas are asked for now.
        tolerances: how far off is near enough.
        now: epoch seconds.
    """

    pods: list[Object]
    wanted: int
    tolerances: Tolerances
    now: float


@dataclass(slots=True)
class Groups:
    """Pods by what is known of them."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a metric asks for.

    Attributes:
        replicas: how many.
        usage: the average use in thousandths.
        utilization: and in hundredths of what is requested, where that is what counts.
    """

    replicas: int
    usage: int
    utilization: int | None = None


def group(pods: list[Object], samples: Mapping[str, Sample], resource: str, now: float) -> Groups:
    """Sorts pods by whether their use can be told."""
    groups = Groups()
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        name, phase = metadata["name"], status.get("phase", "Pending")
        if "deletionTimestamp" in metadata or phase == "Failed":
            groups.ignored.add(name)
        elif phase == "Pending":
            groups.unready.add(name)
        elif name not in samples:
            groups.missing.add(name)
        elif resource == "cpu" and _is_beginning(status, samples[name], now):
            groups.unready.add(name)
        else:
            groups.ready += 1
    return groups


def _is_beginning(status: Object, sample: Sample, now: float) -> bool:
    conditions = status.get("conditions") or ()
    ready = next((one for one in conditions if one.get("type") == "Ready"), None)
    if ready is None or not status.get("startTime"):
        return True
    started, moved = seconds_of(status["startTime"]), seconds_of(ready.get("lastTransitionTime"))
    is_unready = ready.get("status") == "False"
    if started + INITIALIZATION_SECONDS > now:
        return is_unready or sample.time < moved + sample.window
    return is_unready and started + FIRST_READY_SECONDS > moved


def requests_of(pods: list[Object], resource: str, container: str = "") -> dict[str, int]:
    """What each pod requests of a resource, in thousandths.

    Raises:
        Unknown: one requests nothing.
    """
    return {pod["metadata"]["name"]: _request(pod, resource, container) for pod in pods}


def _request(pod: Object, resource: str, container: str) -> int:
    name, spec = pod["metadata"]["name"], pod.get("spec") or {}
    whole = (spec.get("resources") or {}).get("requests")
    if whole and not container:
        if resource not in whole:
            raise Unknown(f"missing pod-level request for {resource} in Pod {name}")
        return quantities.milli(str(whole[resource]))
    sidecars = [
        one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"
    ]
    total, found = 0, False
    for one in (*(spec.get("containers") or ()), *sidecars):
        if container and one["name"] != container:
            continue
        asked = ((one.get("resources") or {}).get("requests") or {}).get(resource)
        if asked is None:
            raise Unknown(
                f"missing request for {resource} in container {one['name']} of Pod {name}"
            )
        total, found = total + quantities.milli(str(asked)), True
    if container and not found:
        raise Unknown(f"container {container} not found in Pod {name}")
    return total


def by_utilization(
    scene: Scene, samples: dict[str, Sample], target: tuple[str, str, int]
) -> Proposal:
    """What is asked for to bring the use of a resource to a part of what is requested.

    Args:
        scene: what for.
        samples: what the pods use.
        target: the resource, the container or none, and the part in hundredths.

    Raises:
        Unknown: there is nothing to work it out from.
    """
    resource, container, part = target
    groups, values = _known(scene, samples, resource)
    requests = requests_of(scene.pods, resource, container)

    def used(figures: dict[str, int]) -> tuple[int, int]:
        """The part that is used, and the average use."""
        named = [name for name in figures if name in requests]
        asked = sum(requests[name] for name in named)
        if asked == 0:
            raise Unknown("no metrics returned matched known pods")
        total = sum(figures[name] for name in named)
        return total * 100 // asked, total // len(named)

    utilization, usage = used(values)
    fallback = max(100, part)
    busy = {name: requests[name] * fallback // 100 for name in groups.missing}
    wanted = _propose(groups, values, busy, lambda v: used(v)[0] / part, scene)
    return Proposal(wanted, usage, utilization)


def by_value(scene: Scene, samples: dict[str, Sample], target: tuple[str, int]) -> Proposal:
    """What is asked for to bring the average to a value.

    Args:
        scene: what for.
        samples: the pods' figures.
        target: the resource or none, and the value in thousandths.

    Raises:
        Unknown: there is nothing to work it out from.
    """
    resource, value = target
    groups, values = _known(scene, samples, resource)

    def average(figures: dict[str, int]) -> int:
        return sum(figures.values()) // len(figures)

    usage = average(values)
    busy = dict.fromkeys(groups.missing, value)
    wanted = _propose(groups, values, busy, lambda v: average(v) / value, scene)
    return Proposal(wanted, usage)


def _known(
    scene: Scene, samples: dict[str, Sample], resource: str
) -> tuple[Groups, dict[str, int]]:
    if not scene.pods:
        raise Unknown("no pods returned by selector while calculating replica count")
    groups = group(scene.pods, samples, resource, scene.now)
    left = groups.ignored | groups.unready
    values = {name: sample.value for name, sample in samples.items() if name not in left}
    if not values:
        raise Unknown("did not receive metrics for targeted pods (pods might be unready)")
    return groups, values


def _propose(
    groups: Groups,
    values: dict[str, int],
    busy: dict[str, int],
    ratio_of: Ratio,
    scene: Scene,
) -> int:
    """How many replicas a ratio asks for, once more with those of whom nothing is known."""
    current, tolerances = scene.wanted, scene.tolerances
    ratio = ratio_of(values)
    rising = bool(groups.unready) and ratio > 1.0
    if not rising and not groups.missing:
        return current if tolerances.hold(ratio) else _whole(ratio * groups.ready)
    figures = dict(values)
    if ratio < 1.0:
        figures.update(busy)
    elif ratio > 1.0:
        figures.update(dict.fromkeys(groups.missing, 0))
    if rising:
        figures.update(dict.fromkeys(groups.unready, 0))
    again = ratio_of(figures)
    if tolerances.hold(again) or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return current
    wanted = _whole(again * len(figures))
    if (again < 1.0 and wanted > current) or (again > 1.0 and wanted < current):
        return current
    return wanted


def by_ratio(ratio: float, ready: int, current: int, tolerances: Tolerances) -> int:
    """What one figure for all pods together asks for."""
    if current == 0:
        return _whole(ratio)
    return current if tolerances.hold(ratio) else _whole(ratio * ready)


def by_share(usage: int, share: int, present: int, tolerances: Tolerances) -> Proposal:
    """What one figure asks for that is divided among pods."""
    if present and tolerances.hold(usage / (share * present)):
        wanted = present
    else:
        wanted = _whole(usage / share)
    return Proposal(wanted, -(-usage // present) if present else usage)


def ready_count(pods: list[Object]) -> int:
    """How many pods run and are ready.

    Raises:
        Unknown: there are no pods.
    """
    if not pods:
        raise Unknown(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
        )
    return sum(
        (pod.get("status") or {}).get("phase") == "Running"
        and any(
            one.get("type") == "Ready" and one.get("status") == "True"
            for one in pod["status"].get("conditions") or ()
        )
        for pod in pods
    )


def _whole(number: float) -> int:
    return min(math.ceil(number), MOST)
