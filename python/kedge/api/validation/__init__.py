# SPDX-License-Identifier: Apache-2.0
"""Whether an object may be stored: field rules per kind, with upstream's paths and words.

Objects come decoded (``kedge.api.schema``: known fields of the right types) and defaulted. All
complaints about an object are collected into one ``Invalid`` error. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.validation import (
    access,
    autoscaling,
    certificates,
    config,
    cron_jobs,
    endpoints,
    job_status,
    jobs,
    limits,
    metadata,
    networking,
    nodes,
    pods,
    policy,
    services,
    stateful_sets,
    storage,
    webhooks,
    workloads,
)
from kedge.api.validation.problems import Problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.api.kinds import Kind

    Rule = Callable[[dict[str, Any], Problems], None]

Object = dict[str, Any]

__all__ = ["Problems", "validate", "validate_status", "validate_update"]


def validate(kind: Kind, obj: Object, further: Rule | None = None) -> None:
    """Checks a new object by itself.

    Args:
        kind: its kind.
        obj: what is to be stored.
        further: a rule of the caller's own, whose causes are told with the others.

    Raises:
        Invalid: with every cause.
    """
    problems = Problems()
    metadata.validate(obj["metadata"], kind.group, kind.resource, problems)
    for table in (_RULES, _NEW):
        rule = table.get((kind.group, kind.resource))
        if rule is not None:
            rule(obj, problems)
    if further is not None:
        further(obj, problems)
    if problems.causes:
        problems.raise_for(kind.group, kind.kind, obj["metadata"].get("name", ""))


def validate_update(kind: Kind, new: Object, old: Object, subresource: str = "") -> None:
    """Checks an object by itself and against what it was.

    Args:
        kind: its kind.
        new: as it is to be.
        old: as it is.
        subresource: through which it changes, where that has rules of its own.

    Raises:
        Invalid: with every cause.
    """
    problems = Problems()
    metadata.validate_update(new["metadata"], old["metadata"], problems)
    if new["metadata"] != old["metadata"]:
        metadata.validate(new["metadata"], kind.group, kind.resource, problems)
    same = all(new.get(part) == old.get(part) for part in {*new, *old} - {"metadata", "status"})
    if not same:
        rule = _RULES.get((kind.group, kind.resource))
        if rule is not None:
            rule(new, problems)
    if not same or subresource:
        resource = f"{kind.resource}/{subresource}" if subresource else kind.resource
        change = _CHANGES.get((kind.group, resource))
        if change is not None:
            change(new, old, problems)
    if problems.causes:
        problems.raise_for(kind.group, kind.kind, old["metadata"]["name"])


def validate_status(kind: Kind, obj: Object, before: Object | None = None) -> None:
    """Checks a status that was written.

    Args:
        kind: the object's kind.
        obj: the object with the new status.
        before: the status that it had, if any.

    Raises:
        Invalid: with every cause.
    """
    problems = Problems()
    rule = _STATUS.get((kind.group, kind.resource))
    if rule is not None:
        rule(obj.get("status", {}), problems)
    if kind.resource == "services" and not kind.group:
        services.validate_status(obj, problems)
    change = _STATUS_CHANGES.get((kind.group, kind.resource))
    if change is not None:
        change(obj, before or {}, problems)
    problems.raise_for(kind.group, kind.kind, obj["metadata"]["name"])


_RULES: dict[tuple[str, str], Callable[[Object, Problems], None]] = {
    ("", "pods"): pods.validate,
    ("", "services"): services.validate,
    ("", "configmaps"): config.validate_config_map,
    ("", "endpoints"): endpoints.validate_endpoints,
    ("", "secrets"): config.validate_secret,
    ("", "events"): config.validate_event,
    ("", "limitranges"): limits.validate_range,
    ("", "nodes"): nodes.validate,
    ("", "persistentvolumeclaims"): storage.validate_claim,
    ("", "persistentvolumes"): storage.validate_volume,
    ("", "replicationcontrollers"): workloads.validate_replication_controller,
    (certificates.GROUP, "certificatesigningrequests"): certificates.validate,
    ("", "resourcequotas"): limits.validate_quota,
    ("batch", "cronjobs"): cron_jobs.validate,
    ("batch", "jobs"): jobs.validate,
    ("certificates.k8s.io", "clustertrustbundles"): endpoints.validate_trust_bundle,
    ("coordination.k8s.io", "leases"): config.validate_lease,
    ("discovery.k8s.io", "endpointslices"): endpoints.validate_slice,
    ("networking.k8s.io", "ingressclasses"): networking.validate_class,
    ("networking.k8s.io", "ingresses"): networking.validate_ingress,
    ("networking.k8s.io", "networkpolicies"): networking.validate_policy,
    ("node.k8s.io", "runtimeclasses"): access.validate_runtime_class,
    (access.GROUP, "clusterrolebindings"): access.validate_cluster_role_binding,
    (access.GROUP, "clusterroles"): access.validate_cluster_role,
    (access.GROUP, "rolebindings"): access.validate_role_binding,
    (access.GROUP, "roles"): access.validate_role,
    ("policy", "poddisruptionbudgets"): policy.validate_budget,
    ("scheduling.k8s.io", "priorityclasses"): access.validate_priority_class,
    ("storage.k8s.io", "csinodes"): storage.validate_csi_node,
    ("storage.k8s.io", "storageclasses"): storage.validate_class,
    ("apps", "deployments"): workloads.validate_deployment,
    ("autoscaling", "horizontalpodautoscalers"): autoscaling.validate,
    ("apps", "replicasets"): workloads.validate_replica_set,
    ("apps", "daemonsets"): workloads.validate_daemon_set,
    ("apps", "controllerrevisions"): stateful_sets.validate_revision,
    ("apps", "statefulsets"): stateful_sets.validate,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): webhooks.validate,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): webhooks.validate,
}
_NEW: dict[tuple[str, str], Callable[[Object, Problems], None]] = {
    ("batch", "cronjobs"): cron_jobs.validate_create,
}
_CHANGES: dict[tuple[str, str], Callable[[Object, Object, Problems], None]] = {
    ("", "pods"): pods.validate_update,
    ("", "pods/ephemeralcontainers"): pods.validate_ephemeral,
    ("", "pods/resize"): pods.validate_resize,
    ("", "services"): services.validate_update,
    ("", "configmaps"): config.validate_config_map_update,
    ("", "secrets"): config.validate_secret_update,
    ("", "nodes"): nodes.validate_update,
    ("", "persistentvolumeclaims"): storage.validate_claim_update,
    ("", "persistentvolumes"): storage.validate_volume_update,
    (certificates.GROUP, "certificatesigningrequests/approval"): certificates.validate_approval,
    (certificates.GROUP, "certificatesigningrequests/status"): certificates.validate_status,
    ("", "resourcequotas"): limits.validate_quota_update,
    ("batch", "cronjobs"): cron_jobs.validate_update,
    ("batch", "jobs"): jobs.validate_update,
    ("certificates.k8s.io", "clustertrustbundles"): endpoints.validate_trust_bundle_update,
    ("discovery.k8s.io", "endpointslices"): endpoints.validate_slice_update,
    ("networking.k8s.io", "ingressclasses"): networking.validate_class_update,
    ("node.k8s.io", "runtimeclasses"): access.validate_runtime_class_update,
    (access.GROUP, "clusterrolebindings"): access.validate_binding_update,
    (access.GROUP, "rolebindings"): access.validate_binding_update,
    ("scheduling.k8s.io", "priorityclasses"): access.validate_priority_class_update,
    ("storage.k8s.io", "storageclasses"): storage.validate_class_update,
    ("apps", "deployments"): workloads.validate_update,
    ("apps", "replicasets"): workloads.validate_update,
    ("apps", "daemonsets"): workloads.validate_update,
    ("apps", "controllerrevisions"): stateful_sets.validate_revision_update,
    ("apps", "statefulsets"): stateful_sets.validate_update,
}
_STATUS: dict[tuple[str, str], Callable[[Object, Problems], None]] = {
    ("", "pods"): pods.validate_status,
    ("", "replicationcontrollers"): workloads.validate_replica_status,
    ("apps", "replicasets"): workloads.validate_replica_status,
    ("apps", "statefulsets"): stateful_sets.validate_status,
    ("autoscaling", "horizontalpodautoscalers"): autoscaling.validate_status,
    ("policy", "poddisruptionbudgets"): policy.validate_budget_status,
}
_STATUS_CHANGES: dict[tuple[str, str], Callable[[Object, Object, Problems], None]] = {
    ("batch", "jobs"): job_status.validate,
}
