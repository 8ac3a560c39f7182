# SPDX-License-Identifier: Apache-2.0
"""Records of claims, PersistentVolumes, their classes, drivers and attachments, beside those in ``records``."""

from __future__ import annotations

import sys

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
    given: int = 0
    """Bytes that it has, as its status says."""
    owners: tuple[wire.OwnerReference, ...] = ()

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
    driver: str = ""
    """The CSI driver that it is of; empty for others."""
    handle: str = ""
    """The driver's name for it."""

    @property
    def key(self) -> Key:
        """The name, in the form of all keys."""
        return ("", self.name)


class Driver(Struct, weakref=False):
    """A CSIDriver."""

    name: str
    uid: str
    version: int
    attaches: bool
    """Its volumes are attached to a node before the node may have them."""

    @property
    def key(self) -> Key:
        """The name, in the form of all keys."""
        return ("", self.name)


class Attachment(Struct, weakref=False):
    """A VolumeAttachment."""

    name: str
    uid: str
    version: int
    deleted: bool
    attacher: str
    node: str
    volume: str
    """The PersistentVolume."""
    attached: bool
    error: str
    """Why it is not attached, as its attacher says."""

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
    may_grow: bool = False

    @property
    def key(self) -> Key:
        """The name, in the form of all keys."""
        return ("", self.name)


_claims = msgspec.json.Decoder(wire.ClaimObject)
_volumes = msgspec.json.Decoder(wire.VolumeObject)
_classes = msgspec.json.Decoder(wire.ClassObject)
_drivers = msgspec.json.Decoder(wire.DriverObject)
_attachments = msgspec.json.Decoder(wire.AttachmentObject)


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
        given=units("storage", (decoded.status.capacity or {}).get("storage", 0)),
        owners=metadata.owner_references or (),
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
        driver=sys.intern(spec.csi.driver) if spec.csi else "",
        handle=spec.csi.volume_handle if spec.csi else "",
    )


def driver_of(value: bytes, version: int) -> Driver:
    """A CSIDriver's record."""
    decoded = _drivers.decode(value)
    return Driver(
        name=decoded.metadata.name,
        uid=decoded.metadata.uid,
        version=version,
        attaches=decoded.spec.attach_required is not False,
    )


def attachment_of(value: bytes, version: int) -> Attachment:
    """A VolumeAttachment's record."""
    decoded = _attachments.decode(value)
    metadata, spec, status = decoded.metadata, decoded.spec, decoded.status
    return Attachment(
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        deleted=metadata.deletion_timestamp is not None,
        attacher=sys.intern(spec.attacher),
        node=sys.intern(spec.node_name),
        volume=spec.source.volume or "",
        attached=status.attached,
        error=(status.attach_error.message or "") if status.attach_error else "",
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
        may_grow=bool(decoded.allow_volume_expansion),
    )
