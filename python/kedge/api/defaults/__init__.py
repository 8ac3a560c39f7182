# SPDX-License-Identifier: Apache-2.0
"""What fields are when nobody says: kube-apiserver 1.36's defaults, per kind, in place.

``apply`` changes a decoded object. Fields that a decision fills in (names, IPs, accounts) are not
here: those are admission, in ``kedge.cluster.apiserver``.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from kedge.api import limits
from kedge.api.defaults import autoscaling, batch, pods, services, workloads

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]


def apply_status(group: str, resource: str, obj: Object) -> None:
    """Fills in the defaults of a status that was written."""
    if (group, resource) == ("", "services"):
        services.service_status(obj)


def apply(group: str, resource: str, obj: Object) -> None:
    """Fills in the defaults of an object."""
    rule = _RULES.get((group, resource))
    if rule is not None:
        rule(obj)


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(value.encode()).decode()


def _namespace(obj: Object) -> None:
    obj.setdefault("status", {}).setdefault("phase", "Active")
    labels = obj["metadata"].setdefault("labels", {})
    if obj["metadata"].get("name"):
        labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def _node(obj: Object) -> None:
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))


def _claim(obj: Object) -> None:
    pods.claim_spec(obj.setdefault("spec", {}))
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _volume_object(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    if "hostPath" in spec:
        spec["hostPath"].setdefault("type", "")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _storage_class(obj: Object) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def _csi_driver(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    for field, value in (
        ("attachRequired", True),
        ("fsGroupPolicy", "ReadWriteOnceWithFSType"),
        ("podInfoOnMount", False),
        ("requiresRepublish", False),
        ("seLinuxMount", False),
        ("storageCapacity", False),
    ):
        spec.setdefault(field, value)
    spec.setdefault("volumeLifecycleModes", ["Persistent"])


def _priority_class(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _binding(obj: Object) -> None:
    """The group of a role is the only one there is; subjects are found by their kind."""
    group = "rbac.authorization.k8s.io"
    if "roleRef" in obj and not obj["roleRef"].get("apiGroup"):
        obj["roleRef"]["apiGroup"] = group
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("Group", "User"):
            subject.setdefault("apiGroup", group)


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction, ()):
            for port in rule.get("ports", ()):
                port.setdefault("protocol", "TCP")


def _ingress_class(obj: Object) -> None:
    parameters = obj.get("spec", {}).get("parameters")
    if parameters is not None:
        parameters.setdefault("scope", "Cluster")


def _pod_template(obj: Object) -> None:
    pods.pod_spec(obj.setdefault("template", {}).setdefault("spec", {}))


def _disruption_budget(obj: Object) -> None:
    status = obj.setdefault("status", {})
    for field in ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"):
        status.setdefault(field, 0)


def _webhooks(obj: Object) -> None:
    is_mutating = obj.get("kind") == "MutatingWebhookConfiguration"
    for hook in obj.get("webhooks") or ():
        hook.setdefault("failurePolicy", "Fail")
        hook.setdefault("matchPolicy", "Equivalent")
        hook.setdefault("namespaceSelector", {})
        hook.setdefault("objectSelector", {})
        hook.setdefault("timeoutSeconds", 10)
        if is_mutating:
            hook.setdefault("reinvocationPolicy", "Never")
        for rule in hook.get("rules") or ():
            rule.setdefault("scope", "*")
        service = (hook.get("clientConfig") or {}).get("service")
        if service is not None:
            service.setdefault("port", 443)


_RULES: dict[tuple[str, str], Callable[[Object], None]] = {
    ("", "limitranges"): limits.defaults,
    ("", "pods"): pods.pod,
    ("", "podtemplates"): _pod_template,
    ("", "endpoints"): services.endpoints,
    ("", "services"): services.service,
    ("", "secrets"): _secret,
    ("", "namespaces"): _namespace,
    ("", "nodes"): _node,
    ("", "persistentvolumeclaims"): _claim,
    ("", "persistentvolumes"): _volume_object,
    ("", "replicationcontrollers"): workloads.replication_controller,
    ("batch", "cronjobs"): batch.cron_job,
    ("batch", "jobs"): batch.job,
    ("discovery.k8s.io", "endpointslices"): services.endpoint_slice,
    ("networking.k8s.io", "ingressclasses"): _ingress_class,
    ("networking.k8s.io", "networkpolicies"): _network_policy,
    ("policy", "poddisruptionbudgets"): _disruption_budget,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _binding,
    ("rbac.authorization.k8s.io", "rolebindings"): _binding,
    ("scheduling.k8s.io", "priorityclasses"): _priority_class,
    ("storage.k8s.io", "csidrivers"): _csi_driver,
    ("storage.k8s.io", "storageclasses"): _storage_class,
    ("apps", "deployments"): workloads.deployment,
    ("autoscaling", "horizontalpodautoscalers"): autoscaling.autoscaler,
    ("apps", "replicasets"): workloads.replica_set,
    ("apps", "daemonsets"): workloads.daemon_set,
    ("apps", "controllerrevisions"): workloads.controller_revision,
    ("apps", "statefulsets"): workloads.stateful_set,
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): _webhooks,
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): _webhooks,
}
