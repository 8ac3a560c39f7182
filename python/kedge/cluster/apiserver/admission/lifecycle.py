# SPDX-License-Identifier: Apache-2.0
"""NamespaceLifecycle: nothing new without its namespace or in one that goes away; some namespaces stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver import failures
from kedge.cluster.apiserver.admission.write import CREATE, DELETE, Plugin, Write, is_core
from kedge.errors import NotFound

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

IMMORTAL = ("default", "kube-system", "kube-public")


class NamespaceLifecycle(Plugin):
    """The plugin."""

    operations = (CREATE, DELETE)

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether a kind lives in namespaces, or is one."""
        return not subresource and (kind.namespaced or is_core(kind, "namespaces"))

    async def admit(self, write: Write) -> None:
        """Refuses.

        Raises:
            NotFound: there is no such namespace.
            Forbidden: it goes away, or is itself one that must stay.
        """
        if write.operation == CREATE:
            if write.kind.namespaced:
                self._check(write)
        elif not write.kind.namespaced and write.key.name in IMMORTAL:
            raise write.forbidden("this namespace may not be deleted")

    def _check(self, write: Write) -> None:
        name = write.key.namespace
        found = self.store.get(ObjectKey("", "namespaces", "", name))
        if found is None:
            raise NotFound(f'namespaces "{name}" not found', {"name": name, "kind": "namespaces"})
        if (
            b'"deletionTimestamp"' not in found.value
            or "deletionTimestamp" not in orjson.loads(found.value)["metadata"]
        ):
            return
        why = f"unable to create new content in namespace {name} because it is being terminated"
        error = write.forbidden(why)
        error.details = failures.details(write.kind, write.key.name)
        error.details["causes"] = [
            {
                "reason": "NamespaceTerminating",
                "message": f"namespace {name} is being terminated",
                "field": "metadata.namespace",
            }
        ]
        raise error
