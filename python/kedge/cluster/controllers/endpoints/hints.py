# SPDX-License-Identifier: Apache-2.0
"""For whom an endpoint is: those in a zone, or on a node. Pure.

Two wishes of a Service say so. ``trafficDistribution`` takes each endpoint for what is near it. The older annotation
``topology-mode: Auto`` divides endpoints among zones by the processors of their nodes, so that none has too few; where that cannot
be, nobody is hinted at.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.cluster.machinery.records import Node

Object = dict[str, Any]
Ratios = dict[str, float]
"""The share of the processors that each zone has."""

OVERLOAD = 0.2
"""How much more than its share an endpoint may have to bear."""
ZONE = "topology.kubernetes.io/zone"
ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"
_MODES = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
_EXCLUDED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_NEAR = ("PreferClose", "PreferSameNode", "PreferSameZone")


@dataclass(frozen=True, slots=True)
class Allocation:
    """How many endpoints are to be for a zone."""

    least: int
    desired: float
    most: int


@dataclass(slots=True)
class Slices:
    """Slices by whether they are written anyway.

    Attributes:
        written: their endpoints may be changed.
        unchanged: those that need other hints are moved to ``touched``, as copies.
        touched: what was not to be written, and now is.
    """

    written: list[Object]
    unchanged: list[Object]
    touched: list[Object] = field(default_factory=list)


def is_automatic(service: Object) -> bool:
    """Whether a Service asks for its endpoints to be divided among zones."""
    annotations = service["metadata"].get("annotations") or {}
    found = [annotations[name] for name in _MODES if name in annotations]
    return bool(found) and found[0] in ("Auto", "auto")


def ratios_of(nodes: Iterable[Node]) -> Ratios | None:
    """The share of each zone; None where nodes do not say enough, or are all in one zone."""
    totals: Counter[str] = Counter()
    for node in nodes:
        if node.ready != "True" or any(name in node.labels for name in _EXCLUDED):
            continue
        zone, processors = node.labels.get(ZONE), node.allocatable.get("cpu", 0)
        if not zone or not processors:
            return None
        totals[zone] += processors
    if len(totals) < 2:
        return None
    return {zone: count / totals.total() for zone, count in totals.items()}


def prefer_near(slices: Slices, wish: str) -> None:
    """Takes each endpoint for what is near it, or for everybody without such a wish."""
    for one in slices.unchanged:
        endpoints = [_near(each, wish) for each in one.get("endpoints") or ()]
        if endpoints != (one.get("endpoints") or []):
            slices.touched.append({**one, "endpoints": endpoints})
    for one in slices.written:
        one["endpoints"] = [_near(each, wish) for each in one["endpoints"]]


def divide(slices: Slices, ratios: Ratios | None) -> str:
    """Divides endpoints among zones; why not, if they are not.

    Args:
        slices: all of a family.
        ratios: the share of each zone.
    """
    count = sum(map(_ready_count, (*slices.written, *slices.unchanged)))
    allocations = allocate(count, ratios)
    if isinstance(allocations, str):
        prefer_near(slices, "")
        return allocations
    if any(map(_has_no_zone, (*slices.written, *slices.unchanged))):
        prefer_near(slices, "")
        return "One or more endpoints do not have a zone specified"
    held = _keep_right_ones(slices, allocations)
    changing = (*slices.written, *slices.touched)
    for one in changing:
        one["endpoints"] = [_bare(each) for each in one.get("endpoints") or ()]
        for each in filter(_is_ready, one["endpoints"]):
            each["hints"] = {"forZones": [{"name": each["zone"]}]}
            held[each["zone"]] += 1
    giving, receiving = _moves(allocations, held)
    _redistribute(changing, giving, receiving)
    return ""


def allocate(count: int, ratios: Ratios | None) -> dict[str, Allocation] | str:
    """How many endpoints each zone is to have, or why that cannot be."""
    if ratios is None:
        return "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
    shown = f"({count} endpoints, {len(ratios)} zones)"
    if len(ratios) > count:
        return f"Insufficient number of endpoints {shown}"
    least = {zone: math.ceil(ratio * count / (1 + OVERLOAD)) for zone, ratio in ratios.items()}
    spare = count - sum(least.values())
    if spare < 0:
        why = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
        return f"{why} {shown}"
    return {
        zone: Allocation(number, max(ratios[zone] * count, number), number + spare)
        for zone, number in least.items()
    }


def _keep_right_ones(slices: Slices, allocations: Mapping[str, Allocation]) -> Counter[str]:
    """The hints of slices that can stay as they are; the others are touched."""
    held: Counter[str] = Counter()
    kept: list[Object] = []
    for one in slices.unchanged:
        found = _hints_of(one)
        fits = found is not None and all(
            zone in allocations and held[zone] + number <= allocations[zone].most
            for zone, number in found.items()
        )
        if fits and found is not None:
            kept.append(one)
            held += found
        else:
            slices.touched.append({**one, "endpoints": list(one.get("endpoints") or ())})
    slices.unchanged = kept
    return held


def _hints_of(one: Object) -> Counter[str] | None:
    """How many endpoints of a slice are for each zone; None if one says nothing."""
    found: Counter[str] = Counter()
    for endpoint in filter(_is_ready, one.get("endpoints") or ()):
        zones = (endpoint.get("hints") or {}).get("forZones")
        if not zones:
            return None
        found.update(zone["name"] for zone in zones)
    return found


def _moves(
    allocations: Mapping[str, Allocation], held: Mapping[str, int]
) -> tuple[Counter[str], Counter[str]]:
    """How many endpoints each zone gives to others, and how many each gets."""
    over = {zone: held[zone] - one.desired for zone, one in allocations.items()}
    spare = {zone: number for zone, number in over.items() if number > 0}
    wanted = {zone: -number for zone, number in over.items() if number < 0}
    giving: Counter[str] = Counter()
    receiving: Counter[str] = Counter()
    while spare and wanted:
        giver, taker = max(spare, key=spare.__getitem__), max(wanted, key=wanted.__getitem__)
        most, need = spare[giver], wanted[taker]
        if max(most, need) < 1.0 or min(most, need) < 0.5:
            break
        giving[giver] += 1
        spare[giver] -= 1
        receiving[taker] += 1
        wanted[taker] -= 1
    return giving, receiving


def _redistribute(slices: Iterable[Object], giving: Counter[str], receiving: Counter[str]) -> None:
    for one in slices:
        for endpoint in filter(_is_ready, one["endpoints"]):
            taker = next((zone for zone, number in receiving.items() if number > 0), "")
            if not taker:
                return
            if giving[endpoint["zone"]] > 0:
                endpoint["hints"] = {"forZones": [{"name": taker}]}
                giving[endpoint["zone"]] -= 1
                receiving[taker] -= 1


def _near(endpoint: Object, wish: str) -> Object:
    if wish not in _NEAR:
        return _bare(endpoint)
    if not _is_ready(endpoint):
        return endpoint
    hints: Object = {}
    if endpoint.get("zone"):
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if endpoint.get("nodeName") and wish == "PreferSameNode":
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return {**_bare(endpoint), "hints": hints} if hints else _bare(endpoint)


def _bare(endpoint: Object) -> Object:
    return {name: value for name, value in endpoint.items() if name != "hints"}


def _is_ready(endpoint: Object) -> bool:
    return bool((endpoint.get("conditions") or {}).get("ready"))


def _has_no_zone(one: Object) -> bool:
    return any(_is_ready(each) and not each.get("zone") for each in one.get("endpoints") or ())


def _ready_count(one: Object) -> int:
    return sum(map(_is_ready, one.get("endpoints") or ()))
