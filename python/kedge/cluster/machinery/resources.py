# SPDX-License-Identifier: Apache-2.0
"""Amounts of resources as integers, and what a pod asks of a node in all. Pure.

``cpu`` is counted in thousandths, everything else in whole units, both rounded up.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kedge.cluster.machinery.wire import Container, PodSpec, PodStatus, Quantity

Amounts = dict[str, int]
NOTHING: Mapping[str, Amounts] = MappingProxyType({})

_SUFFIXES = {
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    "m": Decimal("1e-3"),
    "u": Decimal("1e-6"),
    "n": Decimal("1e-9"),
}


@lru_cache(maxsize=4096)
def units(resource: str, quantity: Quantity) -> int:
    """A quantity in the units that this module counts in; 0 when it cannot be read."""
    text = str(quantity).strip()
    factor = Decimal(1)
    for length in (2, 1):
        if text[-length:] in _SUFFIXES:
            factor = _SUFFIXES[text[-length:]]
            text = text[:-length]
            break
    try:
        value = Decimal(text) * factor * (1000 if resource == "cpu" else 1)
        return int(value.to_integral_value(ROUND_CEILING))
    except InvalidOperation:
        return 0


def amounts(quantities: Mapping[str, Quantity] | None) -> Amounts:
    """A resource list in integer units."""
    return {name: units(name, quantity) for name, quantity in (quantities or {}).items()}


def _requests(container: Container, given: Mapping[str, Amounts] = NOTHING) -> Amounts:
    """A container's requests, or more if its node has given it more; a limit alone is a request."""
    resources = container.resources
    if resources is None:
        return {}
    found = {**amounts(resources.limits), **amounts(resources.requests)}
    if container.name in given:
        _at_least(found, given[container.name])
    return found


def given(status: PodStatus) -> dict[str, Amounts]:
    """What a node has given to containers of a pod, by name: it counts until it is given back."""
    found: dict[str, Amounts] = {}
    for one in (*(status.container_statuses or ()), *(status.init_container_statuses or ())):
        if one.allocated_resources or (one.resources and one.resources.requests):
            total = amounts(one.allocated_resources)
            _at_least(total, amounts(one.resources.requests if one.resources else None))
            found[one.name] = total
    return found


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _at_least(total: Amounts, other: Mapping[str, int]) -> None:
    for name, amount in other.items():
        total[name] = max(total.get(name, 0), amount)


def _init_peak(
    init_containers: Iterable[Container], given: Mapping[str, Amounts]
) -> tuple[Amounts, Amounts]:
    """The most that init containers need at once, and what sidecars among them keep for good."""
    peak: Amounts = {}
    sidecars: Amounts = {}
    for container in init_containers:
        own = _requests(container, given)
        if container.restart_policy == "Always":
            _add(sidecars, own)
            _at_least(peak, sidecars)
        else:
            together = dict(sidecars)
            _add(together, own)
            _at_least(peak, together)
    return peak, sidecars


def pod_requests(spec: PodSpec, given: Mapping[str, Amounts] = NOTHING) -> Amounts:
    """What a pod asks of its node: containers and sidecars, or init containers, and overhead.

    Args:
        spec: the pod's.
        given: what its containers have got by name, which may be more while a resize is going on.
    """
    total: Amounts = {}
    for container in spec.containers:
        _add(total, _requests(container, given))
    peak, sidecars = _init_peak(spec.init_containers or (), given)
    _add(total, sidecars)
    _at_least(total, peak)
    if spec.resources is not None:
        total |= {**amounts(spec.resources.limits), **amounts(spec.resources.requests)}
    _add(total, amounts(spec.overhead))
    return total
