# SPDX-License-Identifier: Apache-2.0
"""Static pods and their mirrors: the annotations that tell them, and what they may not refer to; pure.

A static pod comes from a file on its node; its mirror is how the API shows it. A mirror that could
name Secrets or ConfigMaps would bring them into its node's view: so neither may refer to objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]

MIRROR = "kubernetes.io/config.mirror"
"""On a mirror: the UID of the static pod that it shows."""
HASH = "kubernetes.io/config.hash"
SOURCE = "kubernetes.io/config.source"

_VOLUMES = {
    "configMap": "ConfigMaps",
    "secret": "Secrets",
    "persistentVolumeClaim": "PersistentVolumeClaims",
    "ephemeral": "PersistentVolumeClaims",
}
_PROJECTED = {
    "configMap": "ConfigMaps",
    "secret": "Secrets",
    "serviceAccountToken": "ServiceAccounts",
    "clusterTrustBundle": "ClusterTrustBundles",
    "podCertificate": "certificates",
}
_FROM = {"configMapRef": "ConfigMaps", "secretRef": "Secrets"}
_VALUE_FROM = {"configMapKeyRef": "ConfigMaps", "secretKeyRef": "Secrets"}


def mirrored(pod: Object) -> str:
    """The UID of the static pod that this one mirrors; empty when it is no mirror."""
    return str((pod["metadata"].get("annotations") or {}).get(MIRROR) or "")


def references(spec: Object) -> list[str]:
    """What of a pod's spec refers to objects of the API, each as ``path: kind``."""
    accounts = ("serviceAccountName", "serviceAccount")
    found = [f"spec.{name}: ServiceAccounts" for name in accounts if spec.get(name)]
    if spec.get("imagePullSecrets"):
        found.append("spec.imagePullSecrets: Secrets")
    if spec.get("resourceClaims"):
        found.append("spec.resourceClaims: ResourceClaims")
    if spec.get("ephemeralContainers"):
        found.append("spec.ephemeralContainers: running pods")
    for number, volume in enumerate(spec.get("volumes") or []):
        found += _volume(volume, f"spec.volumes[{number}]")
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(kind) or []):
            found += _environment(container, f"spec.{kind}[{number}]")
    return found


def _volume(volume: Object, path: str) -> Iterator[str]:
    yield from _named(volume, _VOLUMES, path)
    for name, source in volume.items():
        if not isinstance(source, dict):
            continue
        for reference in ("secretRef", "nodePublishSecretRef", "secretName"):
            if source.get(reference) and name != "secret":
                yield f"{path}.{name}.{reference}: Secrets"
    projected = volume.get("projected") or {}
    for number, source in enumerate(projected.get("sources") or []):
        yield from _named(source, _PROJECTED, f"{path}.projected.sources[{number}]")


def _environment(container: Object, path: str) -> Iterator[str]:
    for number, source in enumerate(container.get("envFrom") or []):
        yield from _named(source, _FROM, f"{path}.envFrom[{number}]")
    for number, variable in enumerate(container.get("env") or []):
        where = f"{path}.env[{number}].valueFrom"
        yield from _named(variable.get("valueFrom") or {}, _VALUE_FROM, where)


def _named(value: Object, kinds: dict[str, str], path: str) -> Iterator[str]:
    for name, kind in kinds.items():
        if value.get(name) is not None:
            yield f"{path}.{name}: {kind}"
