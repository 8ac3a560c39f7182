# SPDX-License-Identifier: Apache-2.0
"""Records of claims, PersistentVolumes and StorageClasses, beside those in ``records``."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from kedge.cluster.machinery import wire
from kedge.cluster.machinery.records import Key, Labels, controller_of, shared_labels
from kedge.cluster.machinery.resources import units
from kedge.cluster.machinery.times import seconds_of

DELAYED = "WaitForFirstConsumer"


class Claim(Struct, weakref=False):
    """A PersistentVolumeClaim."""

    namespace: str
    name: str
    uid: str
    version: int
    owner: wire.OwnerReference | None
    created: float
    deleted: bool
    finalizers: tuple[str, ...]
    modes: tuple[str, ...]
    size: int
    class_name: str | None
    """None leaves it to the default class; empty wants none."""
    is_block: bool
    selector: wire.LabelSelector | None
    volume_name: str
    phase: str
    selected_node: str
    is_bound: bool
    """Binding was completed once, whatever has become of the volume."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)

    @property
    def is_ready(self) -> bool:
        """A pod may use it."""
        return self.is_bound and self.phase == "Bound"


class Volume(Struct, weakref=False):
    """A PersistentVolume."""

    name: str
    uid: str
    version: int
    labels: Labels
    created: float
    deleted: bool
    finalizers: tuple[str, ...]
    modes: tuple[str, ...]
    size: int
    class_name: str
    is_block: bool
    claim: wire.ClaimReference | None
    terms: tuple[wire.NodeSelectorTerm, ...] | None
    """Nodes from which it can be reached; None for all."""
    reclaim: str
    phase: str
    provisioned_by: str
    is_bound_by_controller: bool

    @property
    def key(self) -> Key:
        """The name, in the form of all keys."""
        return ("", self.name)


class StorageClass(Struct, weakref=False):
    """A StorageClass."""

    name: str
    uid: str
    version: int
    provisioner: str
    reclaim: str
    is_delayed: bool
    is_default: bool
    created: float
    mount_options: tuple[str, ...]

    @property
    def key(self) -> Key:
        """The name, in the form of all keys."""
        return ("", self.name)


_claims = msgspec.json.Decoder(wire.ClaimObject)
_volumes = msgspec.json.Decoder(wire.VolumeObject)
_classes = msgspec.json.Decoder(wire.ClassObject)


def claim_of(value: bytes, version: int) -> Claim:
    """A claim's record."""
    decoded = _claims.decode(value)
    metadata, spec = decoded.metadata, decoded.spec
    notes = metadata.annotations or wire.Annotations()
    requests = (spec.resources.requests if spec.resources else None) or {}
    return Claim(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        owner=controller_of(metadata),
        created=seconds_of(metadata.creation_timestamp),
        deleted=metadata.deletion_timestamp is not None,
        finalizers=metadata.finalizers or (),
        modes=spec.access_modes or (),
        size=units("storage", requests.get("storage", 0)),
        class_name=spec.storage_class_name,
        is_block=spec.volume_mode == "Block",
        selector=spec.selector,
        volume_name=spec.volume_name or "",
        phase=decoded.status.phase or "Pending",
        selected_node=notes.selected_node,
        is_bound=bool(notes.bind_completed),
    )


def volume_of(value: bytes, version: int) -> Volume:
    """A PersistentVolume's record."""
    decoded = _volumes.decode(value)
    metadata, spec = decoded.metadata, decoded.spec
    notes = metadata.annotations or wire.Annotations()
    required = spec.node_affinity.required if spec.node_affinity else None
    return Volume(
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        labels=shared_labels(metadata.labels),
        created=seconds_of(metadata.creation_timestamp),
        deleted=metadata.deletion_timestamp is not None,
        finalizers=metadata.finalizers or (),
        modes=spec.access_modes or (),
        size=units("storage", (spec.capacity or {}).get("storage", 0)),
        class_name=spec.storage_class_name or "",
        is_block=spec.volume_mode == "Block",
        claim=spec.claim_ref,
        terms=required.node_selector_terms if required else None,
        reclaim=spec.reclaim or "Retain",
        phase=decoded.status.phase or "Pending",
        provisioned_by=notes.provisioned_by,
        is_bound_by_controller=bool(notes.bound_by_controller),
    )


def class_of(value: bytes, version: int) -> StorageClass:
    """A StorageClass's record."""
    decoded = _classes.decode(value)
    metadata = decoded.metadata
    notes = metadata.annotations or wire.Annotations()
    return StorageClass(
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        provisioner=decoded.provisioner,
        reclaim=decoded.reclaim_policy or "Delete",
        is_delayed=decoded.volume_binding_mode == DELAYED,
        is_default=notes.default_class == "true",
        created=seconds_of(metadata.creation_timestamp),
        mount_options=decoded.mount_options or (),
    )
