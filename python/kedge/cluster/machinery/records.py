# SPDX-License-Identifier: Apache-2.0
"""The records that the informer holds: one small struct per object, with only what decisions read.

Labels, requests and ports are shared between pods that have equal ones, as replicas do; a bound
pod forgets what only the scheduler reads. That is what keeps ten thousand pods in a few megabytes.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct

from kedge.cluster.machinery import wire
from kedge.cluster.machinery.job_pods import JobPod, job_pod_of
from kedge.cluster.machinery.resources import Amounts, amounts, given, pod_requests
from kedge.cluster.machinery.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""


class Labels(dict[str, str]):
    """Labels that many records may share; never changed after they are made."""

    __slots__ = ("__weakref__",)


class Requests(dict[str, int]):
    """Requested amounts that many records may share; never changed after they are made."""

    __slots__ = ("__weakref__",)


class HostPort(NamedTuple):
    """A port of the node that a pod takes."""

    address: str
    protocol: str
    port: int


_S = TypeVar("_S", Labels, Requests)


class _Shared:
    """One instance per equal dict, for as long as somebody holds it."""

    def __init__(self) -> None:
        self._labels: WeakValueDictionary[Hashable, Labels] = WeakValueDictionary()
        self._requests: WeakValueDictionary[Hashable, Requests] = WeakValueDictionary()

    def labels(self, values: dict[str, str] | None) -> Labels:
        return self._of(self._labels, Labels, values or {})

    def requests(self, values: Amounts) -> Requests:
        return self._of(self._requests, Requests, values)

    @staticmethod
    def _of(
        known: WeakValueDictionary[Hashable, _S], make: Callable[[Any], _S], values: dict[str, Any]
    ) -> _S:
        key = frozenset(values.items())
        found = known.get(key)
        if found is None:
            found = known[key] = make(values)
        return found


_shared = _Shared()


def shared_labels(values: dict[str, str] | None) -> Labels:
    """One instance per equal labels."""
    return _shared.labels(values)


class NamedPort(NamedTuple):
    """A port that a container has a name for."""

    name: str
    protocol: str
    number: int


class Pod(Struct, weakref=False):
    """A pod as controllers and the scheduler see it."""

    namespace: str
    name: str
    uid: str
    version: int
    labels: Labels
    owner: wire.OwnerReference | None
    """The controller, if the pod has one."""
    node: str
    phase: str
    created: float
    deleted: bool
    """Deletion was asked for; the node has not confirmed it."""
    ready: bool
    ready_since: float
    ready_reason: str
    restarts: int
    deletion_cost: int
    requests: Requests
    host_ports: tuple[HostPort, ...]
    pending: wire.PodSpec | None
    """What the scheduler reads, until the pod is bound."""
    scheduled_reason: str
    """The reason of a False PodScheduled condition."""
    claims: tuple[str, ...] = ()
    """The claims that its volumes use; ephemeral ones are made for it and named after both."""
    addresses: tuple[str, ...] = ()
    """Its IP addresses."""
    named_ports: tuple[NamedPort, ...] = ()
    """Of containers that run beside each other, in the order in which a name is looked up."""
    host: tuple[str, str] = ("", "")
    """``hostname`` and ``subdomain``."""
    disrupted: float = 0.0
    """Since when it is said that somebody is about to end it, unless its node says so."""
    job: JobPod | None = None
    """What only Jobs read, of their pods."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)

    @property
    def finished(self) -> bool:
        """No container of it runs or will run again."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def active(self) -> bool:
        """It counts as a replica: neither finished nor on its way out."""
        return not self.finished and not self.deleted

    def available(self, min_ready_seconds: int, now: float) -> bool:
        """Ready, and for long enough."""
        return self.ready and (
            min_ready_seconds == 0 or self.ready_since + min_ready_seconds <= now
        )


class Node(Struct, weakref=False):
    """A node."""

    name: str
    uid: str
    version: int
    labels: Labels
    taints: tuple[wire.Taint, ...]
    unschedulable: bool
    allocatable: Amounts
    ready: str
    """Status of the Ready condition: True, False or Unknown; empty without one."""
    ready_reason: str
    heartbeat: str
    """``lastHeartbeatTime`` of the Ready condition."""
    pressures: tuple[str, ...]
    """Types of the other conditions that are True."""
    created: float
    deleted: bool
    volumes_in_use: tuple[str, ...] = ()
    """What it says of volumes that it holds: ``volumesInUse`` of its status."""
    volumes_attached: tuple[str, ...] = ()
    """Names in ``volumesAttached`` of its status."""
    volume_pool: int = 0
    """Bytes of the disk on which it has volumes of its own."""
    volumes_to_remove: str = ""
    volumes_directory: str = ""

    @property
    def key(self) -> Key:
        """The name, in the form of all keys."""
        return ("", self.name)


class Workload(Struct, weakref=False):
    """A Deployment, ReplicaSet, ReplicationController, StatefulSet or DaemonSet without its template."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    labels: Labels
    owner: wire.OwnerReference | None
    replicas: int
    min_ready_seconds: int
    selector: wire.LabelSelector | None
    created: float
    deleted: bool

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class Namespace(Struct, weakref=False):
    """A namespace."""

    name: str
    uid: str
    version: int
    deleted: bool
    phase: str
    finalizers: tuple[str, ...]

    @property
    def key(self) -> Key:
        """The name, in the form of all keys."""
        return ("", self.name)


class Named(Struct, weakref=False):
    """An object of which only that it is there matters until it is worked on."""

    namespace: str
    name: str
    uid: str
    version: int

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


class Lease(Struct, weakref=False):
    """A lease: a node's sign of life."""

    namespace: str
    name: str
    uid: str
    version: int
    renewed: str

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


def controller_of(metadata: wire.Metadata) -> wire.OwnerReference | None:
    """The owner that controls an object."""
    for reference in metadata.owner_references or ():
        if reference.controller:
            return reference
    return None


def _condition(conditions: tuple[wire.Condition, ...] | None, name: str) -> wire.Condition | None:
    for condition in conditions or ():
        if condition.type == name:
            return condition
    return None


def _deletion_cost(metadata: wire.Metadata) -> int:
    text = metadata.annotations.deletion_cost if metadata.annotations else ""
    try:
        return int(text) if text else 0
    except ValueError:
        return 0


def _host_ports(spec: wire.PodSpec) -> tuple[HostPort, ...]:
    return tuple(
        HostPort(port.host_ip or "0.0.0.0", port.protocol or "TCP", port.host_port)  # noqa: S104
        for container in (*spec.containers, *(spec.init_containers or ()))
        for port in container.ports or ()
        if port.host_port
    )


@lru_cache(maxsize=1024)
def _one(ports: tuple[NamedPort, ...]) -> tuple[NamedPort, ...]:
    """One instance per equal ports, as replicas have."""
    return ports


def _named_ports(spec: wire.PodSpec) -> tuple[NamedPort, ...]:
    sidecars = (one for one in spec.init_containers or () if one.restart_policy == "Always")
    return _one(
        tuple(
            NamedPort(port.name, port.protocol or "TCP", port.container_port)
            for container in (*spec.containers, *sidecars)
            for port in container.ports or ()
            if port.name
        )
    )


def _addresses(status: wire.PodStatus) -> tuple[str, ...]:
    if status.pod_ips:
        return tuple(one.ip for one in status.pod_ips if one.ip)
    return (status.pod_ip,) if status.pod_ip else ()


_pods = msgspec.json.Decoder(wire.PodObject)
_nodes = msgspec.json.Decoder(wire.NodeObject)
_workloads = msgspec.json.Decoder(wire.WorkloadObject)
_replication = msgspec.json.Decoder(wire.ReplicationObject)
_namespaces = msgspec.json.Decoder(wire.NamespaceObject)
_leases = msgspec.json.Decoder(wire.LeaseObject)
_anything = msgspec.json.Decoder(wire.AnyObject)


def metadata_of(value: bytes) -> wire.Metadata:
    """The metadata of any object."""
    return _anything.decode(value).metadata


def named_of(value: bytes, version: int) -> Named:
    """A record of any object."""
    metadata = metadata_of(value)
    return Named(sys.intern(metadata.namespace), metadata.name, metadata.uid, version)


def pod_of(value: bytes, version: int) -> Pod:
    """A pod's record."""
    decoded = _pods.decode(value)
    metadata, spec, status = decoded.metadata, decoded.spec, decoded.status
    ready = _condition(status.conditions, "Ready")
    scheduled = _condition(status.conditions, "PodScheduled")
    unbound = not spec.node_name
    return Pod(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        labels=_shared.labels(metadata.labels),
        owner=controller_of(metadata),
        node=sys.intern(spec.node_name or ""),
        phase=sys.intern(status.phase or "Pending"),
        created=seconds_of(metadata.creation_timestamp),
        deleted=metadata.deletion_timestamp is not None,
        ready=ready is not None and ready.status == "True",
        ready_since=seconds_of(ready.last_transition_time) if ready else 0.0,
        ready_reason=sys.intern((ready.reason if ready else None) or ""),
        restarts=max((s.restart_count or 0 for s in status.container_statuses or ()), default=0),
        deletion_cost=_deletion_cost(metadata),
        requests=_shared.requests(pod_requests(spec, given(status))),
        host_ports=_host_ports(spec),
        pending=spec if unbound else None,
        scheduled_reason=(
            (scheduled.reason or "")
            if unbound and scheduled and scheduled.status == "False"
            else ""
        ),
        claims=_claims(metadata.name, spec),
        addresses=_addresses(status),
        named_ports=_named_ports(spec),
        disrupted=_disrupted(status),
        host=(spec.hostname, spec.subdomain or "") if spec.hostname else ("", ""),
        job=job_pod_of(decoded, controller_of(metadata)),
    )


def _disrupted(status: wire.PodStatus) -> float:
    found = _condition(status.conditions, "DisruptionTarget")
    if found is None or found.status != "True" or found.reason == "TerminationByKubelet":
        return 0.0
    return seconds_of(found.last_transition_time)


def _claims(pod: str, spec: wire.PodSpec) -> tuple[str, ...]:
    found = []
    for volume in spec.volumes or ():
        if volume.persistent_volume_claim is not None:
            found.append(volume.persistent_volume_claim.claim_name)
        elif volume.ephemeral is not None:
            found.append(f"{pod}-{volume.name}")
    return tuple(found)


def node_of(value: bytes, version: int) -> Node:
    """A node's record."""
    decoded = _nodes.decode(value)
    metadata = decoded.metadata
    ready = _condition(decoded.status.conditions, "Ready")
    return Node(
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        labels=_shared.labels(metadata.labels),
        taints=decoded.spec.taints or (),
        unschedulable=bool(decoded.spec.unschedulable),
        allocatable=amounts(decoded.status.allocatable or decoded.status.capacity),
        ready=ready.status if ready else "",
        ready_reason=(ready.reason or "") if ready else "",
        heartbeat=(ready.last_heartbeat_time or "") if ready else "",
        pressures=tuple(
            each.type
            for each in decoded.status.conditions or ()
            if each.type != "Ready" and each.status == "True"
        ),
        created=seconds_of(metadata.creation_timestamp),
        deleted=metadata.deletion_timestamp is not None,
        volumes_in_use=decoded.status.volumes_in_use or (),
        volumes_attached=tuple(one.name for one in decoded.status.volumes_attached or ()),
        volume_pool=amounts(decoded.status.capacity).get("kedge.io/local-storage", 0),
        volumes_to_remove=metadata.annotations.volumes_to_remove if metadata.annotations else "",
        volumes_directory=metadata.annotations.volumes_directory if metadata.annotations else "",
    )


def workload_of(value: bytes, version: int) -> Workload:
    """A workload's record."""
    decoded = _workloads.decode(value)
    return _workload(decoded.metadata, decoded.spec, version)


def replication_controller_of(value: bytes, version: int) -> Workload:
    """A ReplicationController's record."""
    decoded = _replication.decode(value)
    spec = decoded.spec
    selector = wire.LabelSelector(spec.selector) if spec.selector else None
    shared = wire.WorkloadSpec(spec.replicas, selector, spec.min_ready_seconds)
    return _workload(decoded.metadata, shared, version)


def _workload(metadata: wire.Metadata, spec: wire.WorkloadSpec, version: int) -> Workload:
    return Workload(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        generation=metadata.generation,
        labels=_shared.labels(metadata.labels),
        owner=controller_of(metadata),
        replicas=1 if spec.replicas is None else spec.replicas,
        min_ready_seconds=spec.min_ready_seconds or 0,
        selector=spec.selector,
        created=seconds_of(metadata.creation_timestamp),
        deleted=metadata.deletion_timestamp is not None,
    )


def namespace_of(value: bytes, version: int) -> Namespace:
    """A namespace's record."""
    decoded = _namespaces.decode(value)
    metadata = decoded.metadata
    return Namespace(
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        deleted=metadata.deletion_timestamp is not None,
        phase=decoded.status.phase or "",
        finalizers=decoded.spec.finalizers or (),
    )


def lease_of(value: bytes, version: int) -> Lease:
    """A lease's record."""
    decoded = _leases.decode(value)
    metadata = decoded.metadata
    return Lease(
        namespace=sys.intern(metadata.namespace),
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        renewed=decoded.spec.renew_time or "",
    )
