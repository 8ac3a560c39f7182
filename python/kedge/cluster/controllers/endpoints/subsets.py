# SPDX-License-Identifier: Apache-2.0
"""What a Service's Endpoints object says. Pure.

The older form of slices, one object for all: it holds a thousand addresses, and says when there are more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kedge.api.endpoints import repack
from kedge.cluster.machinery import services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.machinery.records import NamedPort, Pod

Object = dict[str, Any]

CAPACITY = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
_RESERVED = (services.HEADLESS, MANAGED_BY)
_FIELDS = ("addresses", "notReadyAddresses")


def subsets_of(service: Object, pods: Iterable[Pod]) -> list[Object]:
    """The addresses behind a Service, by the ports that they offer."""
    spec = service.get("spec", {})
    anyway = bool(spec.get("publishNotReadyAddresses"))
    family = services.families(service)[0]
    found: dict[tuple[NamedPort, ...], Object] = {}
    for pod in pods:
        addresses = services.addresses_of(pod, family)
        if not addresses or not services.is_endpoint(pod, terminating=anyway):
            continue
        address: Object = {"ip": addresses[0]}
        if hostname := services.hostname_of(pod, service):
            address["hostname"] = hostname
        if pod.node:
            address["nodeName"] = pod.node
        address["targetRef"] = services.target_of(pod)
        field = "addresses" if anyway or pod.ready else "notReadyAddresses"
        subset = found.get(pod.named_ports)
        if subset is None:
            ports = [_port(pod, port) for port in spec.get("ports") or ()]
            subset = {"ports": [port for port in ports if port is not None]}
            found[pod.named_ports] = subset
        if subset["ports"] or (not spec.get("ports") and services.is_headless(service)):
            subset.setdefault(field, []).append(address)
    return repack(list(found.values()))


def _port(pod: Pod, port: Object) -> Object | None:
    number = services.target_port(pod, port)
    if number is None:
        return None
    found: Object = {"port": number, "protocol": port.get("protocol", "TCP")}
    for name in ("name", "appProtocol"):
        if port.get(name):
            found[name] = port[name]
    return found


def wanted(service: Object, pods: Iterable[Pod], old: Object | None, trigger: str) -> Object | None:
    """The Endpoints object to write; None if the one that is there will do.

    Args:
        service: the Service.
        pods: those that it selects.
        old: the object as it is, if there is one.
        trigger: when what led to a change happened; may be empty.
    """
    metadata = service["metadata"]
    subsets = subsets_of(service, pods)
    own = metadata.get("labels") or {}
    if old is not None and _is_right(old, subsets, own):
        return None
    subsets, is_cut = truncated(subsets)
    before = old["metadata"] if old is not None else {}
    annotations = dict(before.get("annotations") or {})
    for name, value in (
        (services.TRIGGER_TIME, trigger),
        (OVER_CAPACITY, "truncated" if is_cut else ""),
    ):
        annotations.pop(name, None)
        if value:
            annotations[name] = value
    labels = {key: value for key, value in own.items() if key != services.HEADLESS}
    if services.is_headless(service):
        labels[services.HEADLESS] = ""
    labels[MANAGED_BY] = MANAGER
    named = {"name": metadata["name"], "namespace": metadata["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {**before, **named, "labels": labels, "annotations": annotations},
        "subsets": subsets,
    }


def _is_right(old: Object, subsets: list[Object], own: dict[str, str]) -> bool:
    metadata = old["metadata"]
    labels = metadata.get("labels") or {}
    rest = {key: value for key, value in labels.items() if key not in _RESERVED}
    return (
        labels.get(MANAGED_BY) == MANAGER
        and rest == {key: value for key, value in own.items() if key not in _RESERVED}
        and OVER_CAPACITY not in (metadata.get("annotations") or {})
        and repack(old.get("subsets") or []) == subsets
    )


def truncated(subsets: list[Object]) -> tuple[list[Object], bool]:
    """As many addresses as an object may hold, ready ones first, and whether some were left out."""
    ready, unready = (sum(len(one.get(name, ())) for one in subsets) for name in _FIELDS)
    if ready + unready <= CAPACITY:
        return subsets, False
    cut, total, room = "notReadyAddresses", unready, CAPACITY - ready
    if ready > CAPACITY:
        cut, total, room = "addresses", ready, CAPACITY
    left, result = room, []
    for one in subsets:
        share = min(math.ceil(len(one.get(cut, ())) / total * room), left)
        kept = one.get(cut, [])[:share]
        left -= len(kept)
        rest = {name: value for name, value in one.items() if name != cut}
        if cut == "addresses":
            rest.pop("notReadyAddresses", None)
        if kept:
            rest[cut] = kept
        if any(name in rest for name in _FIELDS):
            result.append(rest)
    return result, True
