# SPDX-License-Identifier: Apache-2.0
"""The parts of stored JSON that are decoded at all.

msgspec skips every field that is not named here without building it, so an event costs
microseconds and nothing of an object's bulk (managed fields, templates, images) reaches the heap.
Fields are lenient (``None`` where JSON says ``null``): admission has already validated them.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

Quantity = str | int | float


class OwnerReference(Struct, frozen=True, gc=False, rename="camel"):
    """One entry of ``metadata.ownerReferences``."""

    uid: str
    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Annotations(Struct, gc=False):
    """The annotations that decisions read."""

    deletion_cost: str = field(default="", name="controller.kubernetes.io/pod-deletion-cost")
    revision: str = field(default="", name="deployment.kubernetes.io/revision")
    mirror: str = field(default="", name="kubernetes.io/config.mirror")
    selected_node: str = field(default="", name="volume.kubernetes.io/selected-node")
    bind_completed: str = field(default="", name="pv.kubernetes.io/bind-completed")
    bound_by_controller: str = field(default="", name="pv.kubernetes.io/bound-by-controller")
    provisioned_by: str = field(default="", name="pv.kubernetes.io/provisioned-by")
    default_class: str = field(default="", name="storageclass.kubernetes.io/is-default-class")
    volumes_to_remove: str = field(default="", name="volumes.kedge.io/remove")
    volumes_directory: str = field(default="", name="volumes.kedge.io/directory")
    job_index: str = field(default="", name="batch.kubernetes.io/job-completion-index")
    job_failures: str = field(default="", name="batch.kubernetes.io/job-index-failure-count")
    job_ignored: str = field(default="", name="batch.kubernetes.io/job-index-ignored-failure-count")


class Metadata(Struct, rename="camel"):
    """``metadata``."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = "0"
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: Annotations | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: tuple[str, ...] | None = None


class Condition(Struct, rename="camel"):
    """A condition of any status."""

    type: str
    status: str = "Unknown"
    reason: str | None = None
    last_transition_time: str | None = None
    last_heartbeat_time: str | None = None


class Toleration(Struct, frozen=True, rename="camel"):
    """One entry of ``spec.tolerations``."""

    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None


class Taint(Struct, frozen=True, gc=False, rename="camel"):
    """One entry of a Node's ``spec.taints``."""

    key: str
    effect: str = ""
    value: str | None = None


class Requirement(Struct, frozen=True, rename="camel"):
    """One expression of a selector: labels and nodes have the same form."""

    key: str
    operator: str
    values: tuple[str, ...] | None = None


class LabelSelector(Struct, frozen=True, rename="camel"):
    """``metav1.LabelSelector``."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[Requirement, ...] | None = None


class NodeSelectorTerm(Struct, frozen=True, rename="camel"):
    """Requirements that all hold."""

    match_expressions: tuple[Requirement, ...] | None = None
    match_fields: tuple[Requirement, ...] | None = None


class NodeSelector(Struct, frozen=True, rename="camel"):
    """Terms of which one holds."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class PreferredTerm(Struct, frozen=True, rename="camel"):
    """A term that adds ``weight`` to a node's score."""

    weight: int
    preference: NodeSelectorTerm


class NodeAffinity(Struct, frozen=True, rename="camel"):
    """``spec.affinity.nodeAffinity``."""

    required: NodeSelector | None = field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )
    preferred: tuple[PreferredTerm, ...] | None = field(
        default=None, name="preferredDuringSchedulingIgnoredDuringExecution"
    )


class Affinity(Struct, frozen=True, rename="camel"):
    """``spec.affinity``; affinity between pods is only noticed."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: dict[str, Any] | None = None
    pod_anti_affinity: dict[str, Any] | None = None


class SpreadConstraint(Struct, frozen=True, rename="camel"):
    """One entry of ``spec.topologySpreadConstraints``."""

    max_skew: int
    topology_key: str
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: LabelSelector | None = None
    min_domains: int | None = None
    match_label_keys: tuple[str, ...] | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None


class ContainerPort(Struct, rename="camel"):
    """One port of a container."""

    name: str | None = None
    container_port: int = 0
    host_port: int | None = None
    protocol: str | None = None
    host_ip: str | None = field(default=None, name="hostIP")


class Resources(Struct, rename="camel"):
    """``resources`` of a container; limits stand in for requests that admission did not set."""

    requests: dict[str, Quantity] | None = None
    limits: dict[str, Quantity] | None = None


class Container(Struct, rename="camel"):
    """The schedulable side of a container."""

    name: str = ""
    resources: Resources | None = None
    ports: tuple[ContainerPort, ...] | None = None
    restart_policy: str | None = None


class SchedulingGate(Struct):
    """One entry of ``spec.schedulingGates``."""

    name: str = ""


class ClaimSource(Struct, rename="camel"):
    """``persistentVolumeClaim`` of a pod's volume."""

    claim_name: str = ""


class ClaimTemplate(Struct):
    """``ephemeral`` of a pod's volume: only that it is there."""


class PodVolume(Struct, rename="camel"):
    """One entry of a pod's ``spec.volumes``, as far as it is about claims."""

    name: str = ""
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: ClaimTemplate | None = None


class PodSpec(Struct, rename="camel"):
    """``spec`` of a Pod."""

    node_name: str | None = None
    scheduler_name: str | None = None
    priority: int | None = None
    node_selector: dict[str, str] | None = None
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] | None = None
    topology_spread_constraints: tuple[SpreadConstraint, ...] | None = None
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] | None = None
    resources: Resources | None = None
    overhead: dict[str, Quantity] | None = None
    scheduling_gates: tuple[SchedulingGate, ...] | None = None
    volumes: tuple[PodVolume, ...] | None = None
    hostname: str | None = None
    subdomain: str | None = None


class Ended(Struct, rename="camel"):
    """``state.terminated`` of a container's status."""

    exit_code: int = 0
    finished_at: str | None = None


class ContainerState(Struct):
    """``state`` of a container's status: only how it ended."""

    terminated: Ended | None = None


class ContainerStatus(Struct, rename="camel"):
    """How often a container restarted, and what its node has given it."""

    name: str = ""
    restart_count: int | None = None
    resources: Resources | None = None
    allocated_resources: dict[str, Quantity] | None = None
    state: ContainerState | None = None


class PodAddress(Struct):
    """One entry of a Pod's ``status.podIPs``."""

    ip: str = ""


class PodStatus(Struct, rename="camel"):
    """``status`` of a Pod."""

    phase: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: tuple[PodAddress, ...] | None = field(default=None, name="podIPs")
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None


class PodObject(Struct):
    """A Pod."""

    metadata: Metadata
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)


class NodeSpec(Struct, rename="camel"):
    """``spec`` of a Node."""

    unschedulable: bool | None = None
    taints: tuple[Taint, ...] | None = None


class AttachedVolume(Struct):
    """One entry of a Node's ``status.volumesAttached``."""

    name: str = ""


class NodeStatus(Struct, rename="camel"):
    """``status`` of a Node."""

    allocatable: dict[str, Quantity] | None = None
    capacity: dict[str, Quantity] | None = None
    conditions: tuple[Condition, ...] | None = None
    volumes_in_use: tuple[str, ...] | None = None
    volumes_attached: tuple[AttachedVolume, ...] | None = None


class NodeObject(Struct):
    """A Node."""

    metadata: Metadata
    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus = field(default_factory=NodeStatus)


class WorkloadSpec(Struct, rename="camel"):
    """What Deployment, ReplicaSet, StatefulSet and DaemonSet share of ``spec``."""

    replicas: int | None = None
    selector: LabelSelector | None = None
    min_ready_seconds: int | None = None


class WorkloadObject(Struct):
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet without its template."""

    metadata: Metadata
    spec: WorkloadSpec = field(default_factory=WorkloadSpec)


class ReplicationSpec(Struct, rename="camel"):
    """``spec`` of a ReplicationController: labels are its whole selector."""

    replicas: int | None = None
    selector: dict[str, str] | None = None
    min_ready_seconds: int | None = None


class ReplicationObject(Struct):
    """A ReplicationController without its template."""

    metadata: Metadata
    spec: ReplicationSpec = field(default_factory=ReplicationSpec)


class JobSpec(Struct, rename="camel"):
    """What decides on whether a Job is looked at: its selector, who manages it, when it goes."""

    selector: LabelSelector | None = None
    managed_by: str | None = None
    ttl_seconds_after_finished: int | None = None


class JobStatus(Struct, rename="camel"):
    """``status`` of a Job, as far as others than its controller read it."""

    conditions: tuple[Condition, ...] | None = None
    start_time: str | None = None
    completion_time: str | None = None


class JobObject(Struct):
    """A Job without its template."""

    metadata: Metadata
    spec: JobSpec = field(default_factory=JobSpec)
    status: JobStatus = field(default_factory=JobStatus)


class LeaseSpec(Struct, rename="camel"):
    """``spec`` of a Lease."""

    renew_time: str | None = None


class LeaseObject(Struct):
    """A Lease."""

    metadata: Metadata
    spec: LeaseSpec = field(default_factory=LeaseSpec)


class NamespaceStatus(Struct):
    """``status`` of a Namespace."""

    phase: str | None = None


class NamespaceSpec(Struct):
    """``spec`` of a Namespace."""

    finalizers: tuple[str, ...] | None = None


class NamespaceObject(Struct):
    """A Namespace."""

    metadata: Metadata
    spec: NamespaceSpec = field(default_factory=NamespaceSpec)
    status: NamespaceStatus = field(default_factory=NamespaceStatus)


class ClaimReference(Struct, rename="camel"):
    """``claimRef`` of a PersistentVolume."""

    namespace: str = ""
    name: str = ""
    uid: str = ""


class Affine(Struct, rename="camel"):
    """``nodeAffinity`` of a PersistentVolume."""

    required: NodeSelector | None = None


class DriverSource(Struct, rename="camel"):
    """``csi`` of a PersistentVolume."""

    driver: str = ""
    volume_handle: str = ""


class VolumeSpec(Struct, rename="camel"):
    """``spec`` of a PersistentVolume."""

    capacity: dict[str, Quantity] | None = None
    access_modes: tuple[str, ...] | None = None
    claim_ref: ClaimReference | None = None
    storage_class_name: str | None = None
    volume_mode: str | None = None
    node_affinity: Affine | None = None
    reclaim: str | None = field(default=None, name="persistentVolumeReclaimPolicy")
    csi: DriverSource | None = None


class VolumeStatus(Struct):
    """``status`` of a PersistentVolume or a claim."""

    phase: str | None = None
    capacity: dict[str, Quantity] | None = None


class VolumeObject(Struct):
    """A PersistentVolume."""

    metadata: Metadata
    spec: VolumeSpec = field(default_factory=VolumeSpec)
    status: VolumeStatus = field(default_factory=VolumeStatus)


class ClaimSpec(Struct, rename="camel"):
    """``spec`` of a PersistentVolumeClaim."""

    access_modes: tuple[str, ...] | None = None
    selector: LabelSelector | None = None
    resources: Resources | None = None
    volume_name: str | None = None
    storage_class_name: str | None = None
    volume_mode: str | None = None


class ClaimObject(Struct):
    """A PersistentVolumeClaim."""

    metadata: Metadata
    spec: ClaimSpec = field(default_factory=ClaimSpec)
    status: VolumeStatus = field(default_factory=VolumeStatus)


class ClassObject(Struct, rename="camel"):
    """A StorageClass."""

    metadata: Metadata
    provisioner: str = ""
    reclaim_policy: str | None = None
    volume_binding_mode: str | None = None
    mount_options: tuple[str, ...] | None = None
    allow_volume_expansion: bool | None = None


class DriverSpec(Struct, rename="camel"):
    """``spec`` of a CSIDriver."""

    attach_required: bool | None = None


class DriverObject(Struct):
    """A CSIDriver."""

    metadata: Metadata
    spec: DriverSpec = field(default_factory=DriverSpec)


class AttachmentSource(Struct):
    """``spec.source`` of a VolumeAttachment."""

    volume: str | None = field(default=None, name="persistentVolumeName")


class AttachmentSpec(Struct, rename="camel"):
    """``spec`` of a VolumeAttachment."""

    attacher: str = ""
    node_name: str = ""
    source: AttachmentSource = field(default_factory=AttachmentSource)


class Failure(Struct):
    """``attachError`` or ``detachError`` of a VolumeAttachment."""

    message: str | None = None


class AttachmentStatus(Struct, rename="camel"):
    """``status`` of a VolumeAttachment."""

    attached: bool = False
    attach_error: Failure | None = None


class AttachmentObject(Struct):
    """A VolumeAttachment."""

    metadata: Metadata
    spec: AttachmentSpec = field(default_factory=AttachmentSpec)
    status: AttachmentStatus = field(default_factory=AttachmentStatus)


class AnyObject(Struct):
    """Any object: its metadata."""

    metadata: Metadata


Object = dict[str, Any]
"""A decoded API object; unknown fields survive a round trip."""
