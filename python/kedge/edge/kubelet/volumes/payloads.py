# SPDX-License-Identifier: Apache-2.0
"""The files of volumes that are made from objects; pure.

A payload maps relative paths to contents and modes. Missing objects and keys are errors unless they
are optional, as in the kubelet. Sizes are bounded: the objects come from outside.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple

from kedge.edge.kubelet.container.environment import ContainerConfigError, Place, field_value
from kedge.edge.kubelet.objects import TOKENS, Objects, config_map, secret
from kedge.edge.kubelet.pod import lifecycle
from kedge.edge.kubelet.resources import resources
from kedge.edge.kubelet.volumes.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.edge.kubelet.pod.state import Pod

DEFAULT_MODE = 0o644
OWNED_TOKEN_MODE = 0o600
DEFAULT_TOKEN_SECONDS = 3600
MAX_PAYLOAD_BYTES = 16 << 20
MAX_FILES = 4096
MAX_PATH_BYTES = 4096


class File(NamedTuple):
    """A file to be: its bytes, permission bits, and owner if that is not root."""

    content: bytes
    mode: int
    user: int | None = None


Payload = dict[str, File]


def kind_of(volume: dict[str, Any]) -> str:
    """The name of the volume's source, such as ``configMap``."""
    kinds = [name for name in volume if name != "name"]
    return kinds[0] if kinds else "emptyDir"


def render(pod: Pod, volume: dict[str, Any], objects: Objects, place: Place) -> Payload:
    """The files of one volume.

    Args:
        pod: whose it is.
        volume: a configMap, secret, downwardAPI or projected volume.
        objects: the node's view.
        place: what the downward API knows of the node.

    Raises:
        VolumeError: an object or key is missing, a path leaves the volume, or it is too large.
    """
    kind = kind_of(volume)
    source = volume[kind] or {}
    mode = source.get("defaultMode", DEFAULT_MODE)
    parts = source.get("sources") or [] if kind == "projected" else [{kind: source}]
    payload: Payload = {}
    for part in parts:
        for path, file in _source(pod, part, mode, objects, place).items():
            payload[_checked(path)] = file
    if (
        len(payload) > MAX_FILES
        or sum(len(one.content) for one in payload.values()) > MAX_PAYLOAD_BYTES
    ):
        limit = f"wanted at most {MAX_FILES} files and {MAX_PAYLOAD_BYTES} bytes"
        raise VolumeError(f'volume "{volume["name"]}" is too large: {limit}')
    return payload


def _source(pod: Pod, part: dict[str, Any], mode: int, objects: Objects, place: Place) -> Payload:
    namespace = pod["metadata"]["namespace"]
    for kind, source in part.items():
        match kind:
            case "configMap":
                key = config_map(namespace, source.get("name", ""))
                found = objects.get(key)
                return _chosen("configmap", key.name, _config_map_data(found), source, mode)
            case "secret":
                key = secret(namespace, source.get("secretName") or source.get("name", ""))
                found = objects.get(key)
                return _chosen("secret", key.name, _secret_data(found, key.name), source, mode)
            case "downwardAPI":
                return _downward(pod, source, mode, place)
            case "serviceAccountToken":
                content = token(pod, source, objects)["token"].encode()
                return {source["path"]: _token_file(pod, content, mode)}
            case "clusterTrustBundle":
                from kedge.edge.kubelet.volumes import bundles  # noqa: PLC0415 - few pods have one

                anchors = bundles.anchors(source, objects)
                return {source["path"]: _token_file(pod, anchors, mode)}
            case "podCertificate":
                raise VolumeError(
                    "projected volume: podCertificate is not supported: the control plane does not serve "
                    "PodCertificateRequests, so nobody can issue one"
                )
            case _:
                raise VolumeError(f"projected volume: {kind} is not supported on this node")
    return {}


def _config_map_data(found: dict[str, Any] | None) -> dict[str, bytes] | None:
    if found is None:
        return None
    data = {name: text.encode() for name, text in (found.get("data") or {}).items()}
    return data | _decoded(found.get("binaryData") or {}, "configmap", found["metadata"]["name"])


def _secret_data(found: dict[str, Any] | None, name: str) -> dict[str, bytes] | None:
    return None if found is None else _decoded(found.get("data") or {}, "secret", name)


def _decoded(data: dict[str, str], kind: str, name: str) -> dict[str, bytes]:
    try:
        return {key: base64.b64decode(text) for key, text in data.items()}
    except (binascii.Error, ValueError) as error:
        raise VolumeError(f'{kind} "{name}": a value is not base64') from error


def _chosen(
    kind: str, name: str, data: dict[str, bytes] | None, source: dict[str, Any], mode: int
) -> Payload:
    optional = bool(source.get("optional"))
    if data is None:
        if optional:
            return {}
        raise VolumeError(f'{kind} "{name}" not found')
    items = source.get("items")
    if not items:
        return {key: File(content, mode) for key, content in data.items()}
    payload: Payload = {}
    for item in items:
        if item["key"] in data:
            payload[item["path"]] = File(data[item["key"]], item.get("mode", mode))
        elif not optional:
            raise VolumeError(f'{kind} "{name}" references non-existent key: {item["key"]}')
    return payload


def _downward(pod: Pod, source: dict[str, Any], mode: int, place: Place) -> Payload:
    payload: Payload = {}
    for item in source.get("items") or []:
        try:
            if "fieldRef" in item:
                text = field_value(pod, item["fieldRef"]["fieldPath"], place)
            else:
                text = _resource(pod, item.get("resourceFieldRef") or {}, place)
        except (ContainerConfigError, ValueError) as error:
            raise VolumeError(f'downwardAPI item "{item.get("path", "")}": {error}') from error
        payload[item["path"]] = File(text.encode(), item.get("mode", mode))
    return payload


def _resource(pod: Pod, reference: dict[str, Any], place: Place) -> str:
    container = lifecycle.find_container(pod, reference.get("containerName", ""))
    if container is None:
        raise ValueError(f"no such container: {reference.get('containerName', '')}")
    allocatable = place.allocatable or {}
    return resources.field_value(
        container, reference.get("resource", ""), reference.get("divisor"), allocatable
    )


def token(pod: Pod, source: dict[str, Any], objects: Objects) -> dict[str, str]:
    """A token of the pod's account: ``token`` and ``expirationTimestamp``.

    Args:
        pod: whose.
        source: what is wanted: ``audience`` and ``expirationSeconds``.
        objects: the node's view.

    Raises:
        VolumeError: it has not come yet.
    """
    metadata, audience = pod["metadata"], source.get("audience") or ""
    seconds = source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS
    found = [
        one
        for one in objects.list(*TOKENS, metadata["namespace"])
        if _fits(one, metadata["uid"], audience) and (one.get("status") or {}).get("token")
    ]
    if not found:
        whom = f' for audience "{audience}"' if audience else ""
        raise VolumeError(f"the service account token{whom} has not come from the cloud yet")
    best = min(found, key=lambda one: one["spec"].get("expirationSeconds") != seconds)
    status: dict[str, str] = best["status"]
    return status


def _fits(one: dict[str, Any], uid: str, audience: str) -> bool:
    spec = one.get("spec") or {}
    return spec.get("podUID") == uid and (spec.get("audience") or "") == audience


def _token_file(pod: Pod, content: bytes, mode: int) -> File:
    """Readable by the pod's group, else by its one user alone, else by all as ``mode`` says."""
    if owner_group(pod) is not None:
        return File(content, OWNED_TOKEN_MODE)
    user = _only_user(pod)
    return File(content, mode) if user is None else File(content, OWNED_TOKEN_MODE, user)


def owner_group(pod: Pod) -> int | None:
    """The pod's ``fsGroup``."""
    found: int | None = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return found


def _only_user(pod: Pod) -> int | None:
    """The user that all containers run as, when the pod says so and they agree."""
    outer = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users: set[int | None] = {
        (one.get("securityContext") or {}).get("runAsUser", outer) for one in _containers(pod)
    }
    return users.pop() if len(users) == 1 else None


def _containers(pod: Pod) -> Iterable[dict[str, Any]]:
    return [*(pod["spec"].get("initContainers") or []), *(pod["spec"].get("containers") or [])]


def _checked(path: str) -> str:
    parts = path.split("/")
    is_inside = path and not path.startswith("/") and ".." not in parts and "" not in parts
    if not is_inside or parts[0].startswith("..") or len(path.encode()) > MAX_PATH_BYTES:
        raise VolumeError(f"wanted a relative path inside the volume: {path[:200]!r}")
    return path
