# SPDX-License-Identifier: Apache-2.0
"""Which EndpointSlices a Service is to have. Pure.

Endpoints that offer the same ports share slices, of at most a hundred. As few slices as possible are written:
an endpoint stays in the slice where it is, room in slices that change anyway is filled first, then one
unchanged slice that all the rest fits into, and only then is a new one made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.cluster.controllers.endpoints import hints
from kedge.cluster.machinery import services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kedge.cluster.machinery.records import NamedPort, Pod

Object = dict[str, Any]

MANAGER = "endpointslice-controller.k8s.io"
_RESERVED = frozenset((services.SERVICE_NAME, services.MANAGED_BY, services.HEADLESS))


@dataclass(slots=True)
class Group:
    """Endpoints that offer the same ports."""

    ports: list[Object]
    endpoints: dict[Any, Object] = field(default_factory=dict)
    """By what tells them apart."""


@dataclass(slots=True)
class Changes:
    """What to write."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    undivided: str = ""
    """Why endpoints are not divided among zones as the Service asks, if it does and they are not."""


def plan(
    service: Object,
    pods: Iterable[Pod],
    zone_of: Callable[[str], str | None],
    existing: list[Object],
    ratios: hints.Ratios | None = None,
) -> Changes:
    """What to write so that a Service has the right slices.

    Args:
        service: the Service.
        pods: those that it selects.
        zone_of: the zone of a node; empty if it is in none, None if there is no such node.
        existing: the slices that the controller has made for it.
        ratios: the share of the processors that each zone has, where that is known.
    """
    pods = list(pods)
    wanted = services.families(service)
    changes = Changes(delete=[one for one in existing if one["addressType"] not in wanted])
    for family in wanted:
        groups = group(service, pods, zone_of, family)
        mine = [one for one in existing if one["addressType"] == family]
        part = _reconcile(service, groups, mine, family)
        _hint(service, mine, ratios, part)
        _recycle(part, service)
        changes.create += part.create
        changes.update += part.update
        changes.delete += part.delete
        if part.undivided and not changes.undivided:
            changes.undivided = f"{part.undivided}, addressType: {family}"
    if "deletionTimestamp" in service["metadata"]:
        changes.create.clear()
    return changes


def group(
    service: Object,
    pods: Iterable[Pod],
    zone_of: Callable[[str], str | None],
    family: str,
) -> dict[str, Group]:
    """The endpoints of a family, by the ports that they offer."""
    anyway = bool(service.get("spec", {}).get("publishNotReadyAddresses"))
    groups: dict[str, Group] = {}
    known: dict[tuple[NamedPort, ...], Group] = {}
    for pod in pods:
        if not services.is_endpoint(pod, terminating=True):
            continue
        found = known.get(pod.named_ports)
        if found is None:
            ports = _ports(service, pod)
            found = groups.setdefault(_port_key(ports), Group(ports))
            known[pod.named_ports] = found
        zone = zone_of(pod.node)
        addresses = services.addresses_of(pod, family)
        if addresses and (zone is not None or anyway):
            endpoint = _endpoint(service, pod, zone or "", addresses)
            found.endpoints[_identity(endpoint)] = endpoint
    return groups


def _ports(service: Object, pod: Pod) -> list[Object]:
    found = []
    for port in service.get("spec", {}).get("ports") or ():
        number = services.target_port(pod, port)
        if number is not None:
            one = {"name": port.get("name", ""), "port": number}
            one["protocol"] = port.get("protocol", "TCP")
            if port.get("appProtocol") is not None:
                one["appProtocol"] = port["appProtocol"]
            found.append(one)
    return found


def _port_key(ports: Iterable[Object] | None) -> str:
    return json.dumps(sorted(json.dumps(port, sort_keys=True) for port in ports or ()))


def _endpoint(service: Object, pod: Pod, zone: str, addresses: list[str]) -> Object:
    ready = pod.ready and not pod.deleted
    if service.get("spec", {}).get("publishNotReadyAddresses"):
        ready = True
    endpoint: Object = {
        "addresses": addresses,
        "conditions": {"ready": ready, "serving": pod.ready, "terminating": pod.deleted},
        "targetRef": services.target_of(pod),
    }
    if hostname := services.hostname_of(pod, service):
        endpoint["hostname"] = hostname
    if pod.node:
        endpoint["nodeName"] = pod.node
    if zone:
        endpoint["zone"] = zone
    return endpoint


def _identity(endpoint: Object) -> tuple[Any, ...]:
    target = endpoint.get("targetRef") or {}
    addresses = tuple(sorted(endpoint.get("addresses") or ()))
    hostname = endpoint.get("hostname", "")
    return (addresses, hostname, target.get("namespace", ""), target.get("name", ""))


def _is_same(one: Object, other: Object) -> bool:
    if any(one.get(name) != other.get(name) for name in ("nodeName", "zone")):
        return False
    if (one.get("conditions") or {}) != (other.get("conditions") or {}):
        return False
    return _target(one) == _target(other)


def _target(endpoint: Object) -> Object:
    """What an endpoint refers to, whatever version of it was looked at."""
    target = endpoint.get("targetRef") or {}
    return {name: value for name, value in target.items() if name != "resourceVersion"}


def _reconcile(
    service: Object, groups: dict[str, Group], existing: list[Object], family: str
) -> Changes:
    """The changes to the slices of a family."""
    changes = Changes()
    uid = service["metadata"]["uid"]
    by_ports: dict[str, list[Object]] = {}
    for one in existing:
        if any(owner["uid"] == uid for owner in one["metadata"].get("ownerReferences") or ()):
            by_ports.setdefault(_port_key(one.get("ports")), []).append(one)
        else:
            changes.delete.append(one)
    for key, wanted in groups.items():
        _fill(service, wanted, by_ports.get(key, []), family, changes)
    for key, left in by_ports.items():
        if key not in groups:
            changes.delete += left
    if not changes.create and len(existing) == len(changes.delete):
        empty = _new(service, [], family)
        if len(existing) == 1 and _is_placeholder(existing[0], empty):
            changes.delete.clear()
        else:
            changes.create.append(empty)
    return changes


def _is_placeholder(one: Object, empty: Object) -> bool:
    """Whether a slice is already the one that says that there is nothing."""
    mine, wanted = one["metadata"], empty["metadata"]
    return (
        not one.get("endpoints")
        and not one.get("ports")
        and (mine.get("labels") or {}) == wanted["labels"]
        and mine.get("ownerReferences") == wanted["ownerReferences"]
    )


def _fill(
    service: Object, wanted: Group, existing: list[Object], family: str, changes: Changes
) -> None:
    left = dict(wanted.endpoints)
    labels = _labels(service)
    changed: list[Object] = []
    unchanged: list[Object] = []
    for one in existing:
        before = one.get("endpoints") or []
        kept = [left.pop(key) for key in map(_identity, before) if key in left]
        same = len(kept) == len(before) and all(map(_is_same, kept, before))
        if not same and not kept:
            changes.delete.append(one)
        elif not same:
            changed.append(_with(one, kept, labels))
        elif _own_labels(one) != _own_labels({"metadata": {"labels": labels}}):
            changed.append(_with(one, list(before), labels))
        else:
            unchanged.append(one)
    rest = list(left.values())
    for one in sorted(changed, key=lambda slice_: -len(slice_["endpoints"])):
        room = services.SLICE_SIZE - len(one["endpoints"])
        one["endpoints"] += rest[:room]
        rest = rest[room:]
    changes.update += changed
    while rest:
        fitting = _fullest_with_room(unchanged, len(rest))
        if fitting is not None:
            changes.update.append(_with(fitting, [*(fitting.get("endpoints") or ()), *rest]))
            return
        made = _new(service, wanted.ports, family)
        made["endpoints"] = rest[: services.SLICE_SIZE]
        rest = rest[services.SLICE_SIZE :]
        changes.create.append(made)


def _fullest_with_room(slices: list[Object], count: int) -> Object | None:
    fitting = [
        one for one in slices if 0 < len(one.get("endpoints") or ()) <= services.SLICE_SIZE - count
    ]
    return max(fitting, key=lambda one: len(one["endpoints"]), default=None)


def _with(one: Object, endpoints: list[Object], labels: dict[str, str] | None = None) -> Object:
    """A copy of a slice with other endpoints, and other labels if given."""
    changed = {**one, "endpoints": endpoints}
    if labels is not None:
        changed["metadata"] = {**one["metadata"], "labels": labels}
    return changed


def _new(service: Object, ports: list[Object], family: str) -> Object:
    metadata = service["metadata"]
    prefix = f"{metadata['name']}-"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": prefix,
            "namespace": metadata["namespace"],
            "labels": _labels(service),
            "ownerReferences": [services.controller_reference("Service", service)],
        },
        "addressType": family,
        "endpoints": [],
        "ports": ports,
    }


def _labels(service: Object) -> dict[str, str]:
    """The Service's labels, and what tells whose the slice is."""
    labels = _own_labels(service)
    if services.is_headless(service):
        labels[services.HEADLESS] = ""
    labels[services.SERVICE_NAME] = service["metadata"]["name"]
    labels[services.MANAGED_BY] = MANAGER
    return labels


def _own_labels(one: Object) -> dict[str, str]:
    labels = one["metadata"].get("labels") or {}
    return {key: value for key, value in labels.items() if key not in _RESERVED}


def _recycle(changes: Changes, service: Object) -> None:
    """Slices that would be deleted become those that would be created."""
    uid = service["metadata"]["uid"]
    kept: list[Object] = []
    for one in changes.delete:
        owners = one["metadata"].get("ownerReferences") or ()
        if changes.create and any(owner["uid"] == uid for owner in owners):
            made = changes.create.pop()
            metadata = {
                **one["metadata"],
                "labels": made["metadata"]["labels"],
                "ownerReferences": made["metadata"]["ownerReferences"],
            }
            changes.update.append({**made, "metadata": metadata})
        else:
            kept.append(one)
    changes.delete = kept


def _hint(
    service: Object, existing: list[Object], ratios: hints.Ratios | None, changes: Changes
) -> None:
    """Says for whom endpoints are, where the Service asks for it."""
    touched = {one["metadata"].get("name") for one in (*changes.update, *changes.delete)}
    rest = [one for one in existing if one["metadata"]["name"] not in touched]
    slices = hints.Slices([*changes.create, *changes.update], rest)
    if hints.is_automatic(service):
        changes.undivided = hints.divide(slices, ratios)
    else:
        hints.prefer_near(slices, service.get("spec", {}).get("trafficDistribution", ""))
    changes.update += slices.touched
