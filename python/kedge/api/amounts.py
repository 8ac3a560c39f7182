# SPDX-License-Identifier: Apache-2.0
"""Resource lists (``{"cpu": "500m"}``) as quotas and limits count them, and what a pod has in all. Pure.

Amounts stay quantities as they are written, so that messages and statuses show them in their own units. The
scheduler counts in integers of its own: ``kedge.cluster.machinery.resources``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api import quantities

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Object = dict[str, Any]
Amounts = dict[str, str]


def add(one: Mapping[str, str], other: Mapping[str, str]) -> Amounts:
    """The sum of both."""
    total = dict(one)
    for name, amount in other.items():
        total[name] = quantities.plus(total[name], amount) if name in total else amount
    return total


def most(one: Mapping[str, str], other: Mapping[str, str]) -> Amounts:
    """The greater amount of each."""
    total = dict(one)
    for name, amount in other.items():
        if name not in total or is_more(amount, total[name]):
            total[name] = amount
    return total


def growth(now: Mapping[str, str], before: Mapping[str, str]) -> Amounts:
    """What ``now`` has more than ``before``; what became less is zero."""
    found: Amounts = {}
    for name, amount in now.items():
        less = quantities.minus(amount, before.get(name, "0"))
        found[name] = "0" if less.startswith("-") else less
    return found


def only(amounts: Mapping[str, str], names: Iterable[str]) -> Amounts:
    """The amounts of these names."""
    wanted = set(names)
    return {name: amount for name, amount in amounts.items() if name in wanted}


def exceeding(amounts: Mapping[str, str], limits: Mapping[str, str]) -> list[str]:
    """The names of which there is more than a limit, in order."""
    return sorted(
        name for name, amount in amounts.items() if name in limits and is_more(amount, limits[name])
    )


def is_more(one: str, other: str) -> bool:
    """Whether one amount is greater."""
    return quantities.parse(one) > quantities.parse(other)


def of_pod(pod: Object, field: str) -> Amounts:
    """What a pod requests, or may use: containers and sidecars, or init containers, and overhead.

    Args:
        pod: with its status, which may say more than its spec while a resize is going on.
        field: ``requests`` or ``limits``.
    """
    spec = pod.get("spec") or {}
    given = _given(pod.get("status") or {}, field)
    total: Amounts = {}
    for container in spec.get("containers") or ():
        total = add(total, _of_container(container, given, field))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _of_container(container, given, field)
        if container.get("restartPolicy") == "Always":
            total = add(total, own)
            sidecars = add(sidecars, own)
            peak = most(peak, sidecars)
        else:
            peak = most(peak, add(sidecars, own))
    total = most(total, peak)
    total |= (spec.get("resources") or {}).get(field) or {}
    overhead = spec.get("overhead") or {}
    if field == "limits":
        overhead = {name: amount for name, amount in overhead.items() if name in total}
    return add(total, overhead)


def _of_container(container: Object, given: dict[str, Amounts], field: str) -> Amounts:
    own = (container.get("resources") or {}).get(field) or {}
    return most(own, given.get(container.get("name", ""), {}))


def _given(status: Object, field: str) -> dict[str, Amounts]:
    """What containers have got from their node, by name."""
    found: dict[str, Amounts] = {}
    for part in ("containerStatuses", "initContainerStatuses"):
        for one in status.get(part) or ():
            amounts = (one.get("resources") or {}).get(field) or {}
            if field == "requests":
                amounts = most(amounts, one.get("allocatedResources") or {})
            found[one.get("name", "")] = amounts
    return found
