# SPDX-License-Identifier: Apache-2.0
"""Records of Services and of what they lead to, and what several controllers ask of them.

A Service's ports, addresses and policies are read from the store when it is worked on: only what
tells *which* Service is concerned is held.
"""

from __future__ import annotations

import ipaddress
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

from kedge.cluster.machinery import wire
from kedge.cluster.machinery.records import Key, Labels, Pod, shared_labels
from kedge.cluster.machinery.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

GROUP = "discovery.k8s.io"
SLICES = "endpointslices"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
LEADER = "control-plane.alpha.kubernetes.io/leader"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
SLICE_SIZE = 100
"""Endpoints of a slice that is made here."""


class Service(Struct, weakref=False):
    """A Service: whom it selects."""

    namespace: str
    name: str
    uid: str
    version: int
    selector: Labels | None
    """None when it has none: what it leads to is then somebody else's to say."""
    external: bool
    """It is but another name for something outside."""
    created: float

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with those labels is behind it."""
        selector = self.selector
        return selector is not None and all(
            labels.get(key) == value for key, value in selector.items()
        )


class Slice(Struct, weakref=False):
    """An EndpointSlice: whose it is."""

    namespace: str
    name: str
    uid: str
    version: int
    service: str
    manager: str

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class Endpoints(Struct, weakref=False):
    """An Endpoints object: that it is there, and whether slices are to be made of it."""

    namespace: str
    name: str
    uid: str
    version: int
    mirrored: bool
    leader: bool
    """Somebody elects a leader with it."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class _ServiceSpec(Struct):
    selector: dict[str, str] | None = None
    type: str | None = None


class _ServiceObject(Struct):
    metadata: wire.Metadata
    spec: _ServiceSpec = field(default_factory=_ServiceSpec)


class _LeaderAnnotation(Struct):
    leader: str = field(default="", name=LEADER)


class _EndpointsMetadata(Struct, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: _LeaderAnnotation | None = None


class _EndpointsObject(Struct):
    metadata: _EndpointsMetadata


_services = msgspec.json.Decoder(_ServiceObject)
_anything = msgspec.json.Decoder(wire.AnyObject)
_endpoints = msgspec.json.Decoder(_EndpointsObject)


def service_of(value: bytes, version: int) -> Service:
    """A Service's record."""
    decoded = _services.decode(value)
    metadata, spec = decoded.metadata, decoded.spec
    return Service(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        selector=shared_labels(spec.selector) if spec.selector else None,
        external=spec.type == "ExternalName",
        created=seconds_of(metadata.creation_timestamp),
    )


def slice_of(value: bytes, version: int) -> Slice:
    """An EndpointSlice's record."""
    metadata = _anything.decode(value).metadata
    labels = metadata.labels or {}
    return Slice(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        service=labels.get(SERVICE_NAME, ""),
        manager=sys.intern(labels.get(MANAGED_BY, "")),
    )


def endpoints_of(value: bytes, version: int) -> Endpoints:
    """An Endpoints object's record."""
    metadata = _endpoints.decode(value).metadata
    leader = bool(metadata.annotations and metadata.annotations.leader)
    skipped = (metadata.labels or {}).get(SKIP_MIRROR) == "true"
    return Endpoints(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        mirrored=not skipped and not leader,
        leader=leader,
    )


# --- what is asked of them


def is_headless(service: Object) -> bool:
    """Whether a Service has no address of its own."""
    return service.get("spec", {}).get("clusterIP") in (None, "", "None")


def families(service: Object) -> tuple[str, ...]:
    """The kinds of addresses that a Service has: ``IPv4``, ``IPv6`` or both."""
    spec = service.get("spec", {})
    if spec.get("ipFamilies"):
        return tuple(spec["ipFamilies"])
    if is_headless(service):
        return ("IPv4", "IPv6")
    return (family_of(spec["clusterIP"]),)


def family_of(address: str) -> str:
    """``IPv4`` or ``IPv6``."""
    return "IPv6" if ":" in address else "IPv4"


def addresses_of(pod: Pod, family: str) -> list[str]:
    """A pod's addresses of a family, canonical."""
    return [canonical(one) for one in pod.addresses if family_of(one) == family]


@lru_cache(maxsize=8192)
def canonical(address: str) -> str:
    """An address as it is always written; one that is none stays as it is."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def target_port(pod: Pod, port: Object) -> int | None:
    """The port of a pod that a Service's port leads to; None if it has none of that name."""
    target = port.get("targetPort", port.get("port", 0))
    if type(target) is int:
        return target
    protocol = port.get("protocol", "TCP")
    for one in pod.named_ports:
        if one.name == target and one.protocol == protocol:
            return one.number
    return None


def target_of(pod: Pod) -> Object:
    """The reference to a pod from what leads to it."""
    return {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}


def hostname_of(pod: Pod, service: Object) -> str:
    """The name by which a pod is found below its Service, if it has one."""
    hostname, subdomain = pod.host
    return hostname if subdomain == service["metadata"]["name"] else ""


def is_endpoint(pod: Pod, *, terminating: bool) -> bool:
    """Whether a pod can be behind a Service at all."""
    return not pod.finished and bool(pod.addresses) and (terminating or not pod.deleted)


def controller_reference(kind: str, owner: Object) -> Object:
    """The owner reference of slices to a Service or Endpoints object."""
    metadata = owner["metadata"]
    return {
        "apiVersion": "v1",
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
