# SPDX-License-Identifier: Apache-2.0
"""The defaults of pods, also of those in templates, and of the claims that they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]

DEFAULT_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def pod(obj: Object) -> None:
    """A pod."""
    spec = obj.setdefault("spec", {})
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


def claim_spec(spec: Object) -> None:
    """The defaults of a claim's spec, also of one in a pod's volume."""
    spec.setdefault("volumeMode", "Filesystem")


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
