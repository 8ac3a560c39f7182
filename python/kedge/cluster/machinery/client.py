# SPDX-License-Identifier: Apache-2.0
"""How controllers and the scheduler write: through the registry, as the API server's users do.

Each write tells the informer, so that the next decision is made on caches that hold it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedge.cluster.apiserver.bodies import WriteOptions
from kedge.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.api.keys import ObjectKey
    from kedge.cluster.apiserver.registry import Registry
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.wire import Object

CONTROLLERS = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
"""Whose fields are whose, in upstream's names of the programs that do this work there."""
MERGE = "application/merge-patch+json"

BACKGROUND = "Background"
FOREGROUND = "Foreground"
ORPHAN = "Orphan"


class Client:
    """Writes objects and keeps the informer in step.

    Args:
        registry: the write path of the API server.
        informer: told of every write.
        manager: who owns the fields that are written.
    """

    def __init__(self, registry: Registry, informer: Informer, manager: str = CONTROLLERS) -> None:
        self._registry = registry
        self._informer = informer
        self._options = WriteOptions(manager=manager)

    def get(self, key: ObjectKey) -> Object | None:
        """The stored object; None when there is none."""
        try:
            return self._registry.get(key)
        except NotFound:
            return None

    async def create(self, key: ObjectKey, body: Object) -> Object:
        """Creates an object; an empty name in ``key`` asks for ``generateName``."""
        try:
            return await self._registry.create(key, body, self._options)
        finally:
            self._informer.wrote()

    async def update(self, key: ObjectKey, body: Object) -> Object:
        """Replaces an object; a resourceVersion in it must be the current one."""
        try:
            return await self._registry.update(key, body, options=self._options)
        finally:
            self._informer.wrote()

    async def patch(self, key: ObjectKey, patch: Object, *, subresource: str = "") -> Object:
        """Merges ``patch`` into an object, or the part of it that a subresource covers."""
        try:
            return await self._registry.patch(
                key, patch, MERGE, subresource=subresource, options=self._options
            )
        finally:
            self._informer.wrote()

    async def patch_status(
        self, key: ObjectKey, status: Mapping[str, Any], *, version: str = "", uid: str = ""
    ) -> Object:
        """Merges ``status`` into an object's status.

        Args:
            key: the object.
            status: what changes; None removes a field.
            version: the resourceVersion that must still be current, if any.
            uid: the uid that it must have, if any.
        """
        patch: Object = {"status": dict(status)}
        metadata = {
            **({"resourceVersion": version} if version else {}),
            **({"uid": uid} if uid else {}),
        }
        if metadata:
            patch["metadata"] = metadata
        try:
            return await self._registry.patch(
                key, patch, MERGE, subresource="status", options=self._options
            )
        finally:
            self._informer.wrote()

    async def delete(
        self,
        key: ObjectKey,
        *,
        uid: str = "",
        propagation: str = BACKGROUND,
        grace_seconds: int | None = None,
    ) -> None:
        """Deletes an object; one that is gone, or another with its name, is left alone.

        Args:
            key: the object.
            uid: the uid that it must have, if any.
            propagation: what happens to what it owns.
            grace_seconds: overrides the object's own grace.
        """
        options: Object = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": propagation,
        }
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._registry.delete(key, options)
        except NotFound:
            return
        finally:
            self._informer.wrote()

    async def finalize(self, key: ObjectKey, uid: str, finalizer: str) -> None:
        """Takes a finalizer out of a namespace's spec, which lets it go when it was the last."""
        stored = self.get(key)
        if stored is None or stored["metadata"]["uid"] != uid:
            return
        spec = stored.get("spec") or {}
        kept = [each for each in spec.get("finalizers") or [] if each != finalizer]
        try:
            await self._registry.update(
                key,
                {**stored, "spec": {**spec, "finalizers": kept}},
                subresource="finalize",
                options=self._options,
            )
        except NotFound:
            return
        finally:
            self._informer.wrote()

    async def scale(self, key: ObjectKey, replicas: int) -> Object:
        """Sets how many replicas a workload is to have."""
        try:
            return await self._registry.scale(key, lambda _: replicas)
        finally:
            self._informer.wrote()

    async def bind(self, namespace: str, name: str, uid: str, node: str) -> None:
        """Binds a pod to a node."""
        try:
            await self._registry.bind(namespace, name, node, uid=uid)
        finally:
            self._informer.wrote()


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that turns one flat object into another; empty when they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    patch.update({key: value for key, value in new.items() if old.get(key) != value})
    return patch
