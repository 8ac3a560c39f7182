# SPDX-License-Identifier: Apache-2.0
"""What fields are when nobody says: kube-apiserver 1.36's defaults, per kind, in place.

``apply`` changes a decoded object. Fields that a decision fills in (names, IPs, accounts) are not
here: those are admission, in ``kedge.cluster.apiserver``.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Object = dict[str, Any]

DEFAULT_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def apply(group: str, resource: str, obj: Object) -> None:
    """Fills in the defaults of an object."""
    rule = _RULES.get((group, resource))
    if rule is not None:
        rule(obj)


def pod_spec(spec: Object) -> None:
    """The defaults of a pod's spec, also of one in a template."""
    setdefault = spec.setdefault
    setdefault("dnsPolicy", "ClusterFirst")
    setdefault("restartPolicy", "Always")
    setdefault("schedulerName", "default-scheduler")
    setdefault("securityContext", {})
    setdefault("terminationGracePeriodSeconds", 30)
    if "serviceAccount" in spec:
        setdefault("serviceAccountName", spec["serviceAccount"])
    if "serviceAccountName" in spec:
        spec["serviceAccount"] = spec["serviceAccountName"]
    host_network = spec.get("hostNetwork", False)
    for container in containers(spec):
        _container(container, host_network=host_network)
    for volume in spec.get("volumes", ()):
        _volume(volume)


def containers(spec: Object) -> Iterator[Object]:
    """Init, ordinary and ephemeral containers."""
    yield from spec.get("initContainers", ())
    yield from spec.get("containers", ())
    yield from spec.get("ephemeralContainers", ())


def pull_policy(image: str) -> str:
    """``Always`` for a moving tag, ``IfNotPresent`` for one that names a version."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _container(container: Object, *, host_network: bool) -> None:
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if "imagePullPolicy" not in container:
        container["imagePullPolicy"] = pull_policy(container.get("image", ""))
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in _PROBES:
        if name in container:
            _probe(container[name])
    for hook in container.get("lifecycle", {}).values():
        if type(hook) is dict:
            _http_get(hook)
    for variable in container.get("env", ()):
        field = variable.get("valueFrom", {}).get("fieldRef")
        if field is not None:
            field.setdefault("apiVersion", "v1")
    if "securityContext" in container and container["securityContext"].get("privileged"):
        container["securityContext"].setdefault("procMount", "Default")


def _probe(probe: Object) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    _http_get(probe)
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")


def _http_get(handler: Object) -> None:
    if "httpGet" in handler:
        handler["httpGet"].setdefault("path", "/")
        handler["httpGet"].setdefault("scheme", "HTTP")


def _volume(volume: Object) -> None:
    if len(volume) == 1 and "name" in volume:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap"):
        if source in volume:
            volume[source].setdefault("defaultMode", DEFAULT_MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    if "downwardAPI" in volume:
        volume["downwardAPI"].setdefault("defaultMode", DEFAULT_MODE)
        _downward(volume["downwardAPI"])
    if "projected" in volume:
        volume["projected"].setdefault("defaultMode", DEFAULT_MODE)
        for source in volume["projected"].get("sources", ()):
            if "serviceAccountToken" in source:
                source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
            if "downwardAPI" in source:
                _downward(source["downwardAPI"])
    if "ephemeral" in volume and "volumeClaimTemplate" in volume["ephemeral"]:
        claim_spec(volume["ephemeral"]["volumeClaimTemplate"].setdefault("spec", {}))


def _downward(source: Object) -> None:
    for item in source.get("items", ()):
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")


def _pod(pod: Object) -> None:
    spec = pod.setdefault("spec", {})
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for container in containers(spec):
        _requests(container["resources"])


def _requests(resources: Object) -> None:
    """What is limited and not requested is requested at the limit."""
    if "limits" in resources:
        requests = resources.setdefault("requests", {})
        for name, amount in resources["limits"].items():
            requests.setdefault(name, amount)


def _template(obj: Object) -> Object:
    spec: Object = obj.setdefault("spec", {})
    if "template" in spec:
        spec["template"].setdefault("metadata", {})
        pod_spec(spec["template"].setdefault("spec", {}))
    return spec


def _deployment(obj: Object) -> None:
    spec = _template(obj)
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")


def _replica_set(obj: Object) -> None:
    spec = _template(obj)
    spec.setdefault("replicas", 1)
    obj.setdefault("status", {}).setdefault("replicas", 0)


def _daemon_set(obj: Object) -> None:
    spec = _template(obj)
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    status = obj.setdefault("status", {})
    for field in (
        "currentNumberScheduled",
        "desiredNumberScheduled",
        "numberMisscheduled",
        "numberReady",
    ):
        status.setdefault(field, 0)


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    if spec.setdefault("sessionAffinity", "None") == "ClientIP":
        affinity = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        affinity.setdefault("timeoutSeconds", 10800)
    elif spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port", 0))
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


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


def claim_spec(spec: Object) -> None:
    """The defaults of a claim's spec, also of one in a pod's volume."""
    spec.setdefault("volumeMode", "Filesystem")


def _claim(obj: Object) -> None:
    claim_spec(obj.setdefault("spec", {}))
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


def _endpoint_slice(obj: Object) -> None:
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


_RULES: dict[tuple[str, str], Callable[[Object], None]] = {
    ("", "pods"): _pod,
    ("", "services"): _service,
    ("", "secrets"): _secret,
    ("", "namespaces"): _namespace,
    ("", "nodes"): _node,
    ("", "persistentvolumeclaims"): _claim,
    ("", "persistentvolumes"): _volume_object,
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _binding,
    ("rbac.authorization.k8s.io", "rolebindings"): _binding,
    ("scheduling.k8s.io", "priorityclasses"): _priority_class,
    ("storage.k8s.io", "csidrivers"): _csi_driver,
    ("storage.k8s.io", "storageclasses"): _storage_class,
    ("apps", "deployments"): _deployment,
    ("apps", "replicasets"): _replica_set,
    ("apps", "daemonsets"): _daemon_set,
}
