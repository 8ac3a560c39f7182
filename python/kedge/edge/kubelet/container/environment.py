# SPDX-License-Identifier: Apache-2.0
"""A container's environment, command and arguments: sources resolved, ``$(VAR)`` expanded.

``KUBERNETES_SERVICE_HOST`` and ``_PORT`` are set only when the node knows an API endpoint for pods;
service links of other Services are not made (no Services in a node's view).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kedge.edge.kubelet.objects import Objects, config_map, secret
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.resources import resources
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.api.keys import ObjectKey
    from kedge.edge.kubelet.pod.state import Pod

_REFERENCE = re.compile(r"\$(\$)|\$\(([^()]*)\)")
_INDEXED = re.compile(r"metadata\.(annotations|labels)\['(.+)'\]")


class ContainerConfigError(KedgeError):
    """The container cannot be described to the runtime; the message names what is missing."""

    reason: ClassVar[str] = "CreateContainerConfigError"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Place:
    """What the downward API and the environment know of where a pod runs.

    Attributes:
        node: the node's name.
        host_ips: the node's addresses.
        pod_ips: the pod's; the node's for a pod on the host network.
        allocatable: the node's cpu and memory, which stand in for a limit that is not set.
        api_endpoint: host and port where pods reach an API server, if there is one.
    """

    node: str
    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] | None = None
    api_endpoint: tuple[str, int] | None = None


def environment(
    pod: Pod, container: dict[str, Any], objects: Objects, place: Place
) -> dict[str, str]:
    """The variables of a container, in order; later ones win.

    Raises:
        ContainerConfigError: an object or key is missing that is not optional.
    """
    found: dict[str, str] = {}
    if place.api_endpoint is not None:
        found["KUBERNETES_SERVICE_HOST"] = place.api_endpoint[0]
        found["KUBERNETES_SERVICE_PORT"] = str(place.api_endpoint[1])
    for source in container.get("envFrom") or []:
        found.update(_everything(pod, source, objects))
    for variable in container.get("env") or []:
        if "valueFrom" in variable:
            value = _value(pod, container, variable, objects, place)
            if value is not None:
                found[variable["name"]] = value
        else:
            found[variable["name"]] = expand(variable.get("value") or "", found)
    return found


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` replaced where the name is known; ``$$`` is one dollar sign."""

    def one(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(one, text)


def unknown(text: str, variables: Mapping[str, str]) -> str:
    """The first name that ``$(NAME)`` in a text asks for and that is not known; empty if there is none."""
    names = (match[2] for match in _REFERENCE.finditer(text) if not match[1])
    return next((name for name in names if name not in variables), "")


def _everything(pod: Pod, source: dict[str, Any], objects: Objects) -> dict[str, str]:
    """All keys of a ConfigMap or Secret."""
    namespace, prefix = pod["metadata"]["namespace"], source.get("prefix") or ""
    for field, key_of in (("configMapRef", config_map), ("secretRef", secret)):
        if field not in source:
            continue
        reference = source[field]
        data = _data(key_of(namespace, reference.get("name", "")), objects)
        if data is None:
            if reference.get("optional"):
                return {}
            raise ContainerConfigError(f'{_kind(field)} "{reference.get("name")}" not found')
        return {prefix + name: value for name, value in data.items()}
    return {}


def _value(
    pod: Pod, container: dict[str, Any], variable: dict[str, Any], objects: Objects, place: Place
) -> str | None:
    source = variable["valueFrom"]
    namespace = pod["metadata"]["namespace"]
    for field, key_of in (("configMapKeyRef", config_map), ("secretKeyRef", secret)):
        if field in source:
            key = key_of(namespace, source[field].get("name", ""))
            return _entry(field, key, source[field], objects)
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"], place)
    if "resourceFieldRef" in source:
        return _resource(pod, container, source["resourceFieldRef"], place)
    raise ContainerConfigError(f"env {variable['name']}: unknown valueFrom: {', '.join(source)}")


def _entry(field: str, key: ObjectKey, reference: dict[str, Any], objects: Objects) -> str | None:
    data = _data(key, objects)
    if data is not None and reference["key"] in data:
        return data[reference["key"]]
    if reference.get("optional"):
        return None
    if data is None:
        raise ContainerConfigError(f'{_kind(field)} "{key.name}" not found')
    raise ContainerConfigError(
        f"couldn't find key {reference['key']} in {_kind(field)} {key.namespace}/{key.name}"
    )


def _kind(field: str) -> str:
    return "configmap" if field.startswith("configMap") else "secret"


def _data(key: ObjectKey, objects: Objects) -> dict[str, str] | None:
    """An object's text values; a Secret's are decoded."""
    found = objects.get(key)
    if found is None:
        return None
    data: dict[str, str] = found.get("data") or {}
    if key.resource != "secrets":
        return data
    try:
        return {name: base64.b64decode(value).decode() for name, value in data.items()}
    except binascii.Error as error:
        raise ContainerConfigError(f"secret {key.namespace}/{key.name}: not base64") from error
    except UnicodeDecodeError as error:
        text = (
            f"secret {key.namespace}/{key.name}: a value is not UTF-8 text and cannot be a variable"
        )
        raise ContainerConfigError(text) from error


def field_value(pod: Pod, path: str, place: Place) -> str:  # noqa: PLR0911 - a return per field
    """What the downward API says of a field.

    Raises:
        ContainerConfigError: the field is not one that it has.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    indexed = _INDEXED.fullmatch(path)
    if indexed:
        return str((metadata.get(indexed[1]) or {}).get(indexed[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.removeprefix("metadata.")])
        case "metadata.labels" | "metadata.annotations":
            pairs = (metadata.get(path.removeprefix("metadata.")) or {}).items()
            return "\n".join(f'{name}="{_escape(value)}"' for name, value in sorted(pairs))
        case "spec.nodeName":
            return place.node
        case "spec.serviceAccountName":
            return str(spec.get("serviceAccountName") or "default")
        case "status.hostIP":
            return place.host_ips[0] if place.host_ips else ""
        case "status.hostIPs":
            return ",".join(place.host_ips)
        case "status.podIP":
            return place.pod_ips[0] if place.pod_ips else ""
        case "status.podIPs":
            return ",".join(place.pod_ips)
    raise ContainerConfigError(f"fieldRef: unsupported fieldPath: {path}")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _resource(pod: Pod, container: dict[str, Any], reference: dict[str, Any], place: Place) -> str:
    name = reference.get("containerName")
    chosen = container if name in (None, container["name"]) else lifecycle.find_container(pod, name)
    if chosen is None:
        raise ContainerConfigError(f"resourceFieldRef: no such container: {name}")
    try:
        return resources.field_value(
            chosen, reference["resource"], reference.get("divisor"), place.allocatable or {}
        )
    except ValueError as error:
        raise ContainerConfigError(f"resourceFieldRef: {error}") from error
