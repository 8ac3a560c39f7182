# SPDX-License-Identifier: Apache-2.0
"""What of Kubernetes the embedded control plane does: the table behind ``docs/reference/kubernetes.md``.

Groups, kinds and verbs come from ``kedge.api.kinds``; here is what a table of kinds cannot say. No program
loads this: it is for the page, which ``scripts/gen_docs.py`` writes. Who brings a feature changes its row.
"""

from __future__ import annotations

from dataclasses import dataclass

YES, PARTLY, NO = "yes", "partly", "no"


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the page.

    Attributes:
        area: the heading that it stands below.
        name: what it is.
        state: ``yes``, ``partly`` or ``no``.
        note: what is missing, or how it is done.
    """

    area: str
    name: str
    state: str
    note: str = ""


API = "API machinery"
ACCESS = "Access and admission"
CONTROLLERS = "Controllers"
SCHEDULER = "Scheduler"
DATA = "Data"
OTHER = "Beside a cluster"

FEATURES: tuple[Feature, ...] = (
    Feature(API, "discovery, classic and aggregated", YES),
    Feature(API, "OpenAPI v2 and v3 of the kinds below", YES),
    Feature(API, "JSON, merge and strategic merge patches", YES),
    Feature(API, "server-side apply", YES),
    Feature(API, "field validation (`strict`, `warn`, `ignore`) with warnings", YES),
    Feature(API, "dry run", YES),
    Feature(API, "delete options and deletecollection", YES),
    Feature(API, "lists in pages, `resourceVersionMatch`, remaining counts", YES),
    Feature(API, "expired versions and continue tokens (410)", YES, "history of 5 to 10 minutes"),
    Feature(API, "watches with bookmarks and `sendInitialEvents`", YES),
    Feature(API, "Tables and PartialObjectMetadata", YES),
    Feature(API, "gzip and HTTP/2", YES),
    Feature(API, "protobuf", PARTLY, "taken in writes; answers are JSON (406 otherwise)"),
    Feature(API, "custom resources", NO),
    Feature(API, "aggregation of other API servers", NO, "metrics.k8s.io is built in"),
    Feature(ACCESS, "client certificates, bound ServiceAccount tokens", YES),
    Feature(ACCESS, "bootstrap tokens", PARTLY, "removed in time; they authenticate nobody yet"),
    Feature(ACCESS, "impersonation of users and groups", YES),
    Feature(ACCESS, "OIDC", NO),
    Feature(ACCESS, "RBAC with escalation checks and default roles", YES),
    Feature(ACCESS, "what nodes may ask", PARTLY, "by the hub and roles; no Node authorizer"),
    Feature(ACCESS, "LimitRanges and ResourceQuotas", YES),
    Feature(ACCESS, "Pod security levels", YES),
    Feature(ACCESS, "priorities, tolerations, accounts, classes, claims completed", YES),
    Feature(ACCESS, "admission webhooks, mutating and validating", YES),
    Feature(ACCESS, "ValidatingAdmissionPolicies", NO, "their objects are kept, and not asked"),
    Feature(ACCESS, "audit log with a policy and rotation", YES),
    Feature(ACCESS, "signing of CertificateSigningRequests", YES),
    Feature(CONTROLLERS, "Deployments, ReplicaSets, ReplicationControllers, DaemonSets", YES),
    Feature(CONTROLLERS, "StatefulSets", YES),
    Feature(CONTROLLERS, "Jobs", YES),
    Feature(CONTROLLERS, "CronJobs", YES),
    Feature(CONTROLLERS, "HorizontalPodAutoscalers", YES),
    Feature(CONTROLLERS, "PodDisruptionBudgets and eviction", YES),
    Feature(CONTROLLERS, "EndpointSlices and Endpoints", YES),
    Feature(
        CONTROLLERS, "Service addresses and node ports", PARTLY, "given out; no mesh on nodes yet"
    ),
    Feature(CONTROLLERS, "Namespaces, garbage collection, ServiceAccounts", YES),
    Feature(CONTROLLERS, "binding of PersistentVolumes, attaching CSI volumes", YES),
    Feature(CONTROLLERS, "counting of ResourceQuotas", YES),
    Feature(CONTROLLERS, "node lifecycle", YES, "pods of a node out of reach stay: decision 0041"),
    Feature(SCHEDULER, "resources, ports, node affinity, taints, topology spread, volumes", YES),
    Feature(SCHEDULER, "scheduling gates", YES),
    Feature(SCHEDULER, "affinity between pods", NO),
    Feature(SCHEDULER, "preemption", NO),
    Feature(SCHEDULER, "several scheduler names", PARTLY, "others may run beside; it serves one"),
    Feature(DATA, "backup of a running cluster, restore", YES),
    Feature(DATA, "compaction of history by age, count and size", YES),
    Feature(DATA, "a check at the start", YES),
    Feature(DATA, "several API servers over one store", NO, "beyond one machine: a real cluster"),
    Feature(
        OTHER, "the cloud beside a conformant cluster", PARTLY, "one replica, installed by hand"
    ),
    Feature(OTHER, "`kedge init` and `kedge reset --cloud` for a cluster, Helm chart", NO),
    Feature(OTHER, "several replicas of the cloud at a time", NO),
    Feature(OTHER, "KubeEdge's own kinds", NO),
)

ABSENT: dict[tuple[str, str], str] = {
    ("", "ComponentStatus"): "deprecated; /healthz and /readyz say it",
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): "with the other policies",
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): "with the other policies",
    ("apiextensions.k8s.io", "CustomResourceDefinition"): "to come",
    ("apiregistration.k8s.io", "APIService"): "to come",
    ("events.k8s.io", "Event"): "Events are the core group's: decision 0033",
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): "requests are limited per client",
    (
        "flowcontrol.apiserver.k8s.io",
        "PriorityLevelConfiguration",
    ): "requests are limited per client",
    ("networking.k8s.io", "IPAddress"): "addresses are given out by the API server itself",
    ("networking.k8s.io", "ServiceCIDR"): "one range per family: `serviceCidr`",
    ("resource.k8s.io", "DeviceClass"): "devices come by device plugins",
    ("resource.k8s.io", "ResourceClaim"): "devices come by device plugins",
    ("resource.k8s.io", "ResourceClaimTemplate"): "devices come by device plugins",
    ("resource.k8s.io", "ResourceSlice"): "devices come by device plugins",
}
"""Kinds of Kubernetes 1.36's stable groups without a row in ``kedge.api.kinds``, with the reason; a row there wins."""
