# SPDX-License-Identifier: Apache-2.0
"""Which slices mirror an Endpoints object: one per group of ports and family of addresses. Pure."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from typing import Any

from kedge.api.endpoints import repack
from kedge.cluster.machinery import services

Object = dict[str, Any]
_Key = tuple[str, str]
"""A family, and ports as text."""

MANAGER = "endpointslicemirroring-controller.k8s.io"
MAX_ENDPOINTS = 1000
"""Addresses of a subset that are mirrored."""
_NOT_MIRRORED = (services.TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration")


@dataclass(slots=True)
class Mirror:
    """What to write, and what could not be mirrored."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    invalid: int = 0
    """Addresses that are none."""
    skipped: int = 0
    """Addresses that are left out, those included."""


def plan(endpoints: Object, existing: list[Object]) -> Mirror:
    """What to write so that slices say what an Endpoints object does.

    Args:
        endpoints: the object.
        existing: the slices that mirror it now.
    """
    mirror = Mirror()
    wanted: dict[_Key, list[Object]] = {}
    ports: dict[_Key, list[Object]] = {}
    for subset in repack(endpoints.get("subsets") or []):
        _take(subset, wanted, ports, mirror)
    held: dict[_Key, list[Object]] = {}
    for one in existing:
        held.setdefault(_key(one["addressType"], one.get("ports") or []), []).append(one)
    for key, found in wanted.items():
        first, *others = held.pop(key, [None])
        mirror.delete += [one for one in others if one is not None]
        made = _slice(endpoints, key[0], ports[key], found)
        if first is None:
            mirror.create.append(made)
        elif not _is_same(first, made):
            mirror.update.append(_as(first, made))
    for left in held.values():
        mirror.delete += left
    _recycle(mirror)
    if "deletionTimestamp" in endpoints["metadata"]:
        mirror.create.clear()
    return mirror


def _take(
    subset: Object,
    wanted: dict[_Key, list[Object]],
    ports: dict[_Key, list[Object]],
    mirror: Mirror,
) -> None:
    offered = [{"name": "", **port} for port in subset.get("ports") or ()]
    taken = 0
    for name, ready in (("addresses", True), ("notReadyAddresses", False)):
        for address in subset.get(name) or ():
            if taken >= MAX_ENDPOINTS:
                mirror.skipped += 1
                continue
            endpoint = _endpoint(address, ready=ready)
            if endpoint is None:
                mirror.invalid += 1
                mirror.skipped += 1
                continue
            key = _key(services.family_of(endpoint["addresses"][0]), offered)
            ports[key] = offered
            wanted.setdefault(key, []).append(endpoint)
            taken += 1


def _endpoint(address: Object, *, ready: bool) -> Object | None:
    try:
        ip = str(ipaddress.ip_address(address.get("ip", "")))
    except ValueError:
        return None
    endpoint: Object = {"addresses": [ip], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            endpoint[name] = address[name]
    return endpoint


def _key(family: str, ports: list[Object]) -> _Key:
    return family, json.dumps(sorted(json.dumps(port, sort_keys=True) for port in ports))


def _slice(endpoints: Object, family: str, ports: list[Object], found: list[Object]) -> Object:
    metadata = endpoints["metadata"]
    annotations = metadata.get("annotations") or {}
    labels = {
        **(metadata.get("labels") or {}),
        services.SERVICE_NAME: metadata["name"],
        services.MANAGED_BY: MANAGER,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {k: v for k, v in annotations.items() if k not in _NOT_MIRRORED},
            "ownerReferences": [services.controller_reference("Endpoints", endpoints)],
        },
        "addressType": family,
        "endpoints": found,
        "ports": ports,
    }


def _is_same(one: Object, made: Object) -> bool:
    mine, wanted = one["metadata"], made["metadata"]
    return bool(
        (one.get("endpoints") or []) == made["endpoints"]
        and (mine.get("labels") or {}) == wanted["labels"]
        and (mine.get("annotations") or {}) == wanted["annotations"]
        and mine.get("ownerReferences") == wanted["ownerReferences"]
    )


def _as(one: Object, made: Object) -> Object:
    """What a slice becomes when it is to say what another one would."""
    kept = ("labels", "annotations", "ownerReferences")
    changes = {name: made["metadata"][name] for name in kept}
    return {**made, "metadata": {**one["metadata"], **changes}}


def _recycle(mirror: Mirror) -> None:
    """Slices that would be deleted become those that would be created."""
    kept: list[Object] = []
    for one in mirror.delete:
        fitting = [made for made in mirror.create if made["addressType"] == one["addressType"]]
        if fitting:
            mirror.create.remove(fitting[0])
            mirror.update.append(_as(one, fitting[0]))
        else:
            kept.append(one)
    mirror.delete = kept
