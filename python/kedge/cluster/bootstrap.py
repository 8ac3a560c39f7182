# SPDX-License-Identifier: Apache-2.0
"""What a cluster has from the start: its namespaces, the ``kubernetes`` Service, a StorageClass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission import priority
from kedge.cluster.apiserver.bodies import OWN
from kedge.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from kedge.cluster.apiserver.registry import Registry

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease", "kedge-system")


async def prepare(registry: Registry, port: int) -> None:
    """Creates what is absent.

    Args:
        registry: the write path.
        port: where the API server listens.
    """
    for name in NAMESPACES:
        await _ensure(registry, ObjectKey("", "namespaces", "", name), {"metadata": {"name": name}})
    await _ensure(
        registry, ObjectKey("", "services", "default", "kubernetes"), _service(registry, port)
    )
    for name, (value, description) in priority.SYSTEM.items():
        key = ObjectKey(priority.GROUP, priority.RESOURCE, "", name)
        body = {"metadata": {"name": name}, "value": value, "description": description}
        await _ensure(registry, key, body)
    await _ensure(
        registry, ObjectKey("storage.k8s.io", "storageclasses", "", "local-path"), _LOCAL_PATH
    )


_LOCAL_PATH: dict[str, Any] = {
    "metadata": {
        "name": "local-path",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "kedge.io/local-path",
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
    "allowVolumeExpansion": True,
}


async def _ensure(registry: Registry, key: ObjectKey, obj: dict[str, Any]) -> None:
    try:
        registry.get(key)
    except NotFound:
        try:
            await registry.create(key, obj, OWN)
        except AlreadyExists:
            return


def _service(registry: Registry, port: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": registry.allocator.first,
            "ports": [
                {"name": "https", "port": 443, "protocol": "TCP", "targetPort": port or 6443}
            ],
        },
    }
