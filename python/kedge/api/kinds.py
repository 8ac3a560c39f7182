# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: FBT003 - a table
"""The one table of what the API serves.

Discovery, OpenAPI, the resource table that Rust serves reads from, and the write path all read
``KINDS``: adding a kind is adding a row here, its rules (``kedge.api.defaults``,
``kedge.api.validation``, ``kedge.cluster.apiserver.strategies``) and running
``scripts/gen_definitions.py``.

``REVIEWS`` are request documents: they are posted, answered and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

READ = ("get", "list", "watch")
WRITE = ("create", "delete", "deletecollection", "patch", "update")
ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A subresource: its verbs, and the kind that is sent when it is another one."""

    name: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""
    kind: str = ""

    @property
    def is_passed_on(self) -> bool:
        """Whether a node answers it, in its own format; OpenAPI has no schema for that."""
        return self.name in {"attach", "exec", "log", "portforward", "proxy"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table.

    Attributes:
        group: empty for the core group.
        version: the version served, and the one stored.
        kind: CamelCase singular.
        resource: lower-case plural, as in paths.
        singular: lower-case singular, for clients.
        namespaced: whether objects live in a namespace.
        definition: the name in Kubernetes' OpenAPI.
        short_names: as in ``kubectl get po``.
        categories: as in ``kubectl get all``.
        subresources: what hangs below an object.
        verbs: what can be done.
        has_status: whether ``status`` is written only through its subresource.
        selectable: what field selectors may name beside the name and namespace.
        has_generation: whether ``metadata.generation`` counts changes of ``spec``.
    """

    group: str
    version: str
    kind: str
    resource: str
    singular: str
    namespaced: bool
    definition: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    has_status: bool = False
    has_generation: bool = False
    selectable: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """``v1`` or ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """``pods`` or ``deployments.apps``, as messages name it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def base(self) -> str:
        """``/api/v1`` or ``/apis/apps/v1``."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def subresource(self, name: str) -> Subresource | None:
        """The subresource of that name."""
        return next((item for item in self.subresources if item.name == name), None)


STATUS = Subresource("status", ("get", "patch", "update"))
SCALE = Subresource("scale", ("get", "patch", "update"), "autoscaling", "v1", "Scale")
CORE = "io.k8s.api.core.v1."
APPS = "io.k8s.api.apps.v1."
RBAC = "io.k8s.api.rbac.v1."
STORAGE = "io.k8s.api.storage.v1."
BATCH = "io.k8s.api.batch.v1."
NETWORKING = "io.k8s.api.networking.v1."
ADMISSION = "io.k8s.api.admissionregistration.v1."

KINDS: tuple[Kind, ...] = (
    Kind("", "v1", "ConfigMap", "configmaps", "configmap", True, CORE + "ConfigMap", ("cm",)),
    Kind("", "v1", "Endpoints", "endpoints", "endpoints", True, CORE + "Endpoints", ("ep",)),
    Kind(
        "", "v1", "Event", "events", "event", True, CORE + "Event", ("ev",),
        selectable=(
            *(f"involvedObject.{field}" for field in ("apiVersion", "fieldPath", "kind", "name", "namespace")),
            "involvedObject.resourceVersion", "involvedObject.uid", "reason", "reportingComponent", "source", "type",
        ),
    ),
    Kind(
        "", "v1", "LimitRange", "limitranges", "limitrange", True, CORE + "LimitRange", ("limits",),
    ),
    Kind(
        "", "v1", "Namespace", "namespaces", "namespace", False, CORE + "Namespace", ("ns",), (),
        (Subresource("finalize", ("update",)), STATUS),
        ("create", "delete", "get", "list", "patch", "update", "watch"), has_status=True, selectable=("status.phase",),
    ),
    Kind(
        "", "v1", "Node", "nodes", "node", False, CORE + "Node", ("no",), (),
        (Subresource("proxy", ("create", "delete", "get", "patch", "update"), "", "v1", "NodeProxyOptions"), STATUS),
        has_status=True, selectable=("spec.unschedulable",),
    ),
    Kind(
        "", "v1", "PersistentVolume", "persistentvolumes", "persistentvolume", False, CORE + "PersistentVolume", ("pv",),
        (), (STATUS,), has_status=True,
    ),
    Kind(
        "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", True,
        CORE + "PersistentVolumeClaim", ("pvc",), (), (STATUS,), has_status=True,
    ),
    Kind(
        "", "v1", "Pod", "pods", "pod", True, CORE + "Pod", ("po",), ("all",),
        (
            Subresource("attach", ("create", "get"), "", "v1", "PodAttachOptions"),
            Subresource("binding", ("create",), "", "v1", "Binding"),
            Subresource("ephemeralcontainers", ("get", "patch", "update")),
            Subresource("eviction", ("create",), "policy", "v1", "Eviction"),
            Subresource("exec", ("create", "get"), "", "v1", "PodExecOptions"),
            Subresource("log", ("get",), "", "v1", "Pod"),
            Subresource("portforward", ("create", "get"), "", "v1", "PodPortForwardOptions"),
            Subresource("resize", ("get", "patch", "update")),
            STATUS,
        ),
        has_status=True, has_generation=True,
        selectable=(
            "spec.hostNetwork", "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
            "status.nominatedNodeName", "status.phase", "status.podIP",
        ),
    ),
    Kind("", "v1", "PodTemplate", "podtemplates", "podtemplate", True, CORE + "PodTemplate"),
    Kind(
        "", "v1", "ReplicationController", "replicationcontrollers", "replicationcontroller", True,
        CORE + "ReplicationController", ("rc",), ("all",), (SCALE, STATUS), has_status=True, has_generation=True,
    ),
    Kind(
        "", "v1", "ResourceQuota", "resourcequotas", "resourcequota", True, CORE + "ResourceQuota", ("quota",), (),
        (STATUS,), has_status=True,
    ),
    Kind("", "v1", "Secret", "secrets", "secret", True, CORE + "Secret", selectable=("type",)),
    Kind(
        "", "v1", "Service", "services", "service", True, CORE + "Service", ("svc",), ("all",), (STATUS,),
        has_status=True, selectable=("spec.clusterIP", "spec.type"),
    ),
    Kind(
        "", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", True, CORE + "ServiceAccount", ("sa",), (),
        (Subresource("token", ("create",), "authentication.k8s.io", "v1", "TokenRequest"),),
    ),
    Kind(
        "admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations",
        "mutatingwebhookconfiguration", False, ADMISSION + "MutatingWebhookConfiguration", (), ("api-extensions",),
        has_generation=True,
    ),
    Kind(
        "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies",
        "validatingadmissionpolicy", False, ADMISSION + "ValidatingAdmissionPolicy", (), ("api-extensions",), (STATUS,),
        has_status=True, has_generation=True,
    ),
    Kind(
        "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings",
        "validatingadmissionpolicybinding", False, ADMISSION + "ValidatingAdmissionPolicyBinding", (),
        ("api-extensions",), has_generation=True,
    ),
    Kind(
        "admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations",
        "validatingwebhookconfiguration", False, ADMISSION + "ValidatingWebhookConfiguration", (), ("api-extensions",),
        has_generation=True,
    ),
    Kind(
        "apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision", True,
        APPS + "ControllerRevision",
    ),
    Kind(
        "apps", "v1", "DaemonSet", "daemonsets", "daemonset", True, APPS + "DaemonSet", ("ds",), ("all",), (STATUS,),
        has_status=True, has_generation=True,
    ),
    Kind(
        "apps", "v1", "Deployment", "deployments", "deployment", True, APPS + "Deployment", ("deploy",), ("all",),
        (SCALE, STATUS), has_status=True, has_generation=True,
    ),
    Kind(
        "apps", "v1", "ReplicaSet", "replicasets", "replicaset", True, APPS + "ReplicaSet", ("rs",), ("all",),
        (SCALE, STATUS), has_status=True, has_generation=True, selectable=("status.replicas",),
    ),
    Kind(
        "apps", "v1", "StatefulSet", "statefulsets", "statefulset", True, APPS + "StatefulSet", ("sts",), ("all",),
        (SCALE, STATUS), has_status=True, has_generation=True,
    ),
    Kind(
        "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler", True,
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler", ("hpa",), ("all",), (STATUS,), has_status=True,
    ),
    Kind(
        "batch", "v1", "CronJob", "cronjobs", "cronjob", True, BATCH + "CronJob", ("cj",), ("all",), (STATUS,),
        has_status=True, has_generation=True,
    ),
    Kind(
        "batch", "v1", "Job", "jobs", "job", True, BATCH + "Job", (), ("all",), (STATUS,), has_status=True,
        has_generation=True, selectable=("status.successful",),
    ),
    Kind(
        "certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests",
        "certificatesigningrequest", False, "io.k8s.api.certificates.v1.CertificateSigningRequest", ("csr",), (),
        (Subresource("approval", ("get", "patch", "update")), STATUS), has_status=True,
        selectable=("spec.signerName",),
    ),
    Kind(
        "certificates.k8s.io", "v1beta1", "ClusterTrustBundle", "clustertrustbundles", "clustertrustbundle", False,
        "io.k8s.api.certificates.v1beta1.ClusterTrustBundle", selectable=("spec.signerName",),
    ),
    Kind(
        "coordination.k8s.io", "v1", "Lease", "leases", "lease", True, "io.k8s.api.coordination.v1.Lease",
    ),
    Kind(
        "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice", True,
        "io.k8s.api.discovery.v1.EndpointSlice",
    ),
    Kind(
        "networking.k8s.io", "v1", "Ingress", "ingresses", "ingress", True, NETWORKING + "Ingress", ("ing",), (),
        (STATUS,), has_status=True, has_generation=True,
    ),
    Kind(
        "networking.k8s.io", "v1", "IngressClass", "ingressclasses", "ingressclass", False, NETWORKING + "IngressClass",
        has_generation=True,
    ),
    Kind(
        "networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", "networkpolicy", True,
        NETWORKING + "NetworkPolicy", ("netpol",), has_generation=True,
    ),
    Kind(
        "node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "runtimeclass", False, "io.k8s.api.node.v1.RuntimeClass",
    ),
    Kind(
        "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget", True,
        "io.k8s.api.policy.v1.PodDisruptionBudget", ("pdb",), (), (STATUS,), has_status=True, has_generation=True,
    ),
    Kind(
        "rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "clusterrole", False, RBAC + "ClusterRole",
    ),
    Kind(
        "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding", False,
        RBAC + "ClusterRoleBinding",
    ),
    Kind("rbac.authorization.k8s.io", "v1", "Role", "roles", "role", True, RBAC + "Role"),
    Kind(
        "rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "rolebinding", True, RBAC + "RoleBinding",
    ),
    Kind(
        "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", "priorityclass", False,
        "io.k8s.api.scheduling.v1.PriorityClass", ("pc",),
    ),
    Kind("storage.k8s.io", "v1", "CSIDriver", "csidrivers", "csidriver", False, STORAGE + "CSIDriver"),
    Kind("storage.k8s.io", "v1", "CSINode", "csinodes", "csinode", False, STORAGE + "CSINode"),
    Kind(
        "storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", "csistoragecapacity", True,
        STORAGE + "CSIStorageCapacity",
    ),
    Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", "storageclass", False, STORAGE + "StorageClass", ("sc",)),
    Kind(
        "storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", "volumeattachment", False,
        STORAGE + "VolumeAttachment", (), (), (STATUS,), has_status=True,
    ),
    Kind(
        "storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", "volumeattributesclass", False,
        STORAGE + "VolumeAttributesClass", ("vac",),
    ),
)  # fmt: skip

_CREATE = ("create",)
REVIEWS: tuple[Kind, ...] = (
    Kind("", "v1", "Binding", "bindings", "binding", True, CORE + "Binding", verbs=_CREATE),
    Kind(
        "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview", False,
        "io.k8s.api.authentication.v1.SelfSubjectReview", verbs=_CREATE,
    ),
    Kind(
        "authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "tokenreview", False,
        "io.k8s.api.authentication.v1.TokenReview", verbs=_CREATE,
    ),
    Kind(
        "authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews",
        "localsubjectaccessreview", True, "io.k8s.api.authorization.v1.LocalSubjectAccessReview", verbs=_CREATE,
    ),
    Kind(
        "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews",
        "selfsubjectaccessreview", False, "io.k8s.api.authorization.v1.SelfSubjectAccessReview", verbs=_CREATE,
    ),
    Kind(
        "authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews",
        "selfsubjectrulesreview", False, "io.k8s.api.authorization.v1.SelfSubjectRulesReview", verbs=_CREATE,
    ),
    Kind(
        "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview", False,
        "io.k8s.api.authorization.v1.SubjectAccessReview", verbs=_CREATE,
    ),
)  # fmt: skip

_LOOK = ("get", "list")

USAGE: tuple[Kind, ...] = (
    Kind("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", "", False, "", verbs=_LOOK),
    Kind("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", "", True, "", verbs=_LOOK),
)
"""Asked of nodes when somebody asks (rust/kedge-core/src/kubeapi/usage); neither stored nor in OpenAPI."""

PARAMETERS: tuple[str, ...] = (
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.policy.v1.Eviction",
)
"""Definitions of what subresources take and give."""


@cache
def _by_resource() -> dict[tuple[str, str], Kind]:
    return {(kind.group, kind.resource): kind for kind in (*KINDS, *REVIEWS)}


@cache
def _by_kind() -> dict[tuple[str, str], Kind]:
    return {(kind.api_version, kind.kind): kind for kind in KINDS}


def find(group: str, resource: str) -> Kind | None:
    """The row of a resource."""
    return _by_resource().get((group, resource))


def of(group: str, resource: str) -> Kind:
    """The row of a resource that is known to have one."""
    return _by_resource()[group, resource]


def find_kind(api_version: str, kind: str) -> Kind | None:
    """The row of a stored kind, as objects and owner references name it."""
    return _by_kind().get((api_version, kind))
