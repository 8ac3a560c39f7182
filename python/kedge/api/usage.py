# SPDX-License-Identifier: Apache-2.0
"""What an object counts for in ResourceQuotas, and in which scopes it is. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from kedge.api import amounts, quantities, selectors
from kedge.api.extended import is_extended
from kedge.api.quota import BY_CLASS, CLAIMS, CLASSIC, COMPUTE, COUNT, HUGE, PODS, SERVICES
from kedge.api.validation.pods import qos_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kedge.api.amounts import Amounts
    from kedge.api.quota import Resource

Object = dict[str, Any]

_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
_REQUIRED = frozenset(COMPUTE)
"""If one of these is in a quota, every container must state it."""


def usage(resource: Resource, obj: Object, now: float) -> Amounts:
    """What an object counts for.

    Args:
        resource: its kind.
        obj: the object.
        now: seconds since 1970.
    """
    group, name = resource
    total: Amounts = {f"{COUNT}{name}.{group}" if group else COUNT + name: "1"}
    if resource == PODS:
        if _is_alive(obj, now):
            requests, limits = amounts.of_pod(obj, "requests"), amounts.of_pod(obj, "limits")
            total |= _computed(requests, limits)
    elif resource == SERVICES:
        total |= _of_service(obj.get("spec") or {})
    elif resource == CLAIMS:
        total |= _of_claim(obj)
    elif not group and name in CLASSIC:
        total[name] = "1"
    return total


def _is_alive(pod: Object, now: float) -> bool:
    """Whether a pod takes resources: one that has ended, or whose grace is over, does not."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    metadata = pod["metadata"]
    if "deletionTimestamp" not in metadata or "deletionGracePeriodSeconds" not in metadata:
        return True
    ends = datetime.fromisoformat(metadata["deletionTimestamp"]).timestamp()
    return now <= ends + float(metadata["deletionGracePeriodSeconds"])


def _computed(requests: Amounts, limits: Amounts) -> Amounts:
    total: Amounts = {"pods": "1"}
    for name in ("cpu", "memory", "ephemeral-storage"):
        if name in requests:
            total[name] = total[f"requests.{name}"] = requests[name]
        if name in limits:
            total[f"limits.{name}"] = limits[name]
    for name, amount in requests.items():
        if name.startswith(HUGE):
            total[name] = total[f"requests.{name}"] = amount
        elif is_extended(name):
            total[f"requests.{name}"] = amount
    return total


def _of_service(spec: Object) -> Amounts:
    ports, kind = spec.get("ports") or (), spec.get("type")
    wanted = 0
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        wanted = sum(1 for port in ports if port.get("nodePort"))
    elif kind in ("NodePort", "LoadBalancer"):
        wanted = len(ports)
    balancers = "1" if kind == "LoadBalancer" else "0"
    return {
        "services": "1",
        "services.nodeports": str(wanted),
        "services.loadbalancers": balancers,
    }


def _of_claim(claim: Object) -> Amounts:
    spec = claim.get("spec") or {}
    notes = claim["metadata"].get("annotations") or {}
    of_class = notes.get(_OLD_CLASS) or spec.get("storageClassName") or ""
    total: Amounts = {"persistentvolumeclaims": "1"}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if asked is not None:
        given = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage")
        if given is not None and amounts.is_more(given, asked):
            asked = given
        if quantities.parse(asked) % 1:
            asked = str(quantities.integer(asked))
        total["requests.storage"] = asked
    if of_class:
        total |= {of_class + BY_CLASS + name: amount for name, amount in total.items()}
    return total


def is_within(resource: Resource, obj: Object, scopes: Iterable[Object]) -> bool:
    """Whether an object is in all scopes; only pods and claims can be in any."""
    return all(_is_in(resource, obj, scope) for scope in scopes)


def _is_in(resource: Resource, obj: Object, scope: Object) -> bool:
    name, spec = scope.get("scopeName"), obj.get("spec") or {}
    if resource == CLAIMS:
        return name == "VolumeAttributesClass" and _holds(scope, _attributes(obj))
    return resource == PODS and name in _SCOPES and _SCOPES[name](spec, scope)


def _is_terminating(spec: Object) -> bool:
    return int(spec.get("activeDeadlineSeconds", -1)) >= 0


def _has_priority(spec: Object, scope: Object) -> bool:
    named = spec.get("priorityClassName")
    return _holds(scope, {named} if named else set())


def _holds(scope: Object, values: set[str]) -> bool:
    """Whether one of the values, or their absence, is what the scope asks for."""
    requirement = {**scope, "key": "value"}
    wanted = {"matchExpressions": [requirement]}
    return any(selectors.matches(wanted, {"value": one}) for one in values) or (
        not values and selectors.matches(wanted, {})
    )


def _attributes(claim: Object) -> set[str]:
    status = claim.get("status") or {}
    found = {
        (claim.get("spec") or {}).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    }
    return {one for one in found if one}


def _looks_elsewhere(affinity: Object) -> bool:
    for part in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(part) or {}
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms = [
            *(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ()),
            *(one.get("podAffinityTerm") or {} for one in preferred),
        ]
        if any(term.get("namespaces") or "namespaceSelector" in term for term in terms):
            return True
    return False


_SCOPES: dict[Any, Callable[[Object, Object], bool]] = {
    "BestEffort": lambda spec, _: qos_class(spec) == "BestEffort",
    "CrossNamespacePodAffinity": lambda spec, _: _looks_elsewhere(spec.get("affinity") or {}),
    "NotBestEffort": lambda spec, _: qos_class(spec) != "BestEffort",
    "NotTerminating": lambda spec, _: not _is_terminating(spec),
    "PriorityClass": _has_priority,
    "Terminating": lambda spec, _: _is_terminating(spec),
}


def missing(resource: Resource, obj: Object, names: Iterable[str]) -> str:
    """What containers of a pod must state because a quota counts it, in words; empty if nothing."""
    if resource != PODS:
        return ""
    required = _REQUIRED.intersection(names)
    lacking: dict[str, set[str]] = {}
    for field in ("containers", "initContainers"):
        for container in (obj.get("spec") or {}).get(field) or ():
            resources = container.get("resources") or {}
            stated = _computed(resources.get("requests") or {}, resources.get("limits") or {})
            for name in required - stated.keys():
                lacking.setdefault(name, set()).add(container.get("name", ""))
    texts = [f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking)]
    return f"must specify {'; '.join(texts)}" if texts else ""
