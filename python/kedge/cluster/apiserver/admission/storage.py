# SPDX-License-Identifier: Apache-2.0
"""DefaultStorageClass and PersistentVolumeClaimResize: which class a claim is of, and whether it may grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import quantities
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.write import UPDATE, Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

Object = dict[str, Any]

GROUP, RESOURCE = "storage.k8s.io", "storageclasses"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_CANNOT_GROW = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
    "support resize"
)


class DefaultStorageClass(Plugin):
    """A claim that names no class gets the newest that is marked as the default."""

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a claim."""
        return is_core(kind, "persistentvolumeclaims") and not subresource

    async def admit(self, write: Write) -> None:
        """Names the class."""
        if "storageClassName" in write.obj.get("spec", {}):
            return
        found = []
        for item in self.store.list(GROUP, RESOURCE).items:
            metadata = orjson.loads(item.value)["metadata"]
            if (metadata.get("annotations") or {}).get(_DEFAULT_CLASS) == "true":
                found.append((metadata.get("creationTimestamp", ""), metadata["name"]))
        if found:
            write.obj["spec"]["storageClassName"] = max(found)[1]


class PersistentVolumeClaimResize(Plugin):
    """A claim grows only when its class lets it."""

    operations = (UPDATE,)

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a claim."""
        return is_core(kind, "persistentvolumeclaims") and not subresource

    async def validate(self, write: Write) -> None:
        """Refuses.

        Raises:
            Forbidden: the class does not let it.
        """
        if not _grows(write.obj, write.old):
            return
        name = write.old["spec"].get("storageClassName") or ""
        found = self.store.get(ObjectKey(GROUP, RESOURCE, "", name))
        if found is None or orjson.loads(found.value).get("allowVolumeExpansion") is not True:
            raise write.forbidden(_CANNOT_GROW)


def _grows(new: Object, old: Object) -> bool:
    """Whether a claim asks for more than before."""
    amounts = [
        one.get("spec", {}).get("resources", {}).get("requests", {}).get("storage")
        for one in (new, old)
    ]
    if None in amounts or amounts[0] == amounts[1]:
        return False
    return quantities.parse(amounts[0]) > quantities.parse(amounts[1])
