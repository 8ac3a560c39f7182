# SPDX-License-Identifier: Apache-2.0
"""Reads of the node's view: what a pod's volumes and environment are made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from kedge.api.keys import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.edge.kubelet.pod.state import Pod
    from kedge.store import Store

TOKENS = ("kedge.io", "serviceaccounttokens")
RUNTIME_CLASSES = ("node.k8s.io", "runtimeclasses")
NODE_TOKENS = ("kedge.io", "nodetokens")
"""Those that the node signed (``kedge.edge.metaserver.tokens``), by the names of the cloud's."""


class Objects(Protocol):
    """Objects by key; always the newest that the node has."""

    def get(self, key: ObjectKey) -> dict[str, Any] | None:
        """The object, or none."""

    def list(self, group: str, resource: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of a resource in a namespace."""


class StoreObjects:
    """The same from the store.

    Args:
        store: the node's replica.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: ObjectKey) -> dict[str, Any] | None:
        """The object, or none."""
        stored = self._store.get(key)
        return None if stored is None else json.loads(stored.value)

    def list(self, group: str, resource: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of a resource in a namespace."""
        page = self._store.list(group, resource, namespace=namespace)
        return [json.loads(item.value) for item in page.items]


def config_map(namespace: str, name: str) -> ObjectKey:
    """The key of a ConfigMap."""
    return ObjectKey("", "configmaps", namespace, name)


def secret(namespace: str, name: str) -> ObjectKey:
    """The key of a Secret."""
    return ObjectKey("", "secrets", namespace, name)


def any_of(key: ObjectKey) -> ObjectKey:
    """What stands for every object of a resource among a pod's references."""
    return ObjectKey(key.group, key.resource, "", "")


_VOLUMES = ObjectKey("", "persistentvolumes", "", "")
_ATTACHMENTS = ObjectKey("storage.k8s.io", "volumeattachments", "", "")
_DRIVERS = ObjectKey("storage.k8s.io", "csidrivers", "", "")
_NODES = ObjectKey("", "nodes", "", "")
_BUNDLES = ObjectKey("certificates.k8s.io", "clustertrustbundles", "", "")


def references(pod: Pod) -> frozenset[ObjectKey]:
    """The objects that a change of concerns this pod; ``any_of`` where it cannot be told which."""
    namespace, spec = pod["metadata"]["namespace"], pod["spec"]
    found = {
        secret(namespace, one["name"])
        for one in spec.get("imagePullSecrets") or []
        if one.get("name")
    }
    if spec.get("runtimeClassName"):
        found.add(ObjectKey(*RUNTIME_CLASSES, "", spec["runtimeClassName"]))
    for volume in spec.get("volumes") or []:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for source in sources:
            if "configMap" in source:
                found.add(config_map(namespace, source["configMap"].get("name", "")))
            if "secret" in source:
                held = source["secret"]
                found.add(secret(namespace, held.get("secretName") or held.get("name", "")))
            if "clusterTrustBundle" in source:
                found.add(_BUNDLES)
        claim = _claim(pod, volume)
        if "csi" in volume:
            found.add(_DRIVERS)
            held = volume["csi"].get("nodePublishSecretRef") or {}
            found.add(secret(namespace, held.get("name", "")))
        if claim:
            claim_key = ObjectKey("", "persistentvolumeclaims", namespace, claim)
            found.update((_VOLUMES, _ATTACHMENTS, _DRIVERS, _NODES, claim_key))
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            found.update(_environment(namespace, container))
    return frozenset(found)


def _claim(pod: Pod, volume: dict[str, Any]) -> str:
    """The name of a volume's claim; empty when it has none."""
    if "ephemeral" in volume:
        return f"{pod['metadata']['name']}-{volume['name']}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


def _environment(namespace: str, container: dict[str, Any]) -> Iterator[ObjectKey]:
    for source in container.get("envFrom") or []:
        if "configMapRef" in source:
            yield config_map(namespace, source["configMapRef"].get("name", ""))
        if "secretRef" in source:
            yield secret(namespace, source["secretRef"].get("name", ""))
    for variable in container.get("env") or []:
        source = variable.get("valueFrom") or {}
        if "configMapKeyRef" in source:
            yield config_map(namespace, source["configMapKeyRef"].get("name", ""))
        if "secretKeyRef" in source:
            yield secret(namespace, source["secretKeyRef"].get("name", ""))
