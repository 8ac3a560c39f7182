# SPDX-License-Identifier: Apache-2.0
"""DefaultIngressClass: an Ingress that names no class gets the newest that is marked as the default."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from kedge.cluster.apiserver.admission.write import Plugin, Write

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

GROUP = "networking.k8s.io"
_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_NAMED_BEFORE = "kubernetes.io/ingress.class"
"""How an Ingress named its class before there was a field."""


class DefaultIngressClass(Plugin):
    """The plugin."""

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is an Ingress."""
        return (kind.group, kind.resource) == (GROUP, "ingresses") and not subresource

    async def admit(self, write: Write) -> None:
        """Names the class."""
        spec = write.obj.setdefault("spec", {})
        notes = write.obj["metadata"].get("annotations") or {}
        if spec.get("ingressClassName") is not None or _NAMED_BEFORE in notes:
            return
        marked = []
        for row in self.store.list(GROUP, "ingressclasses").items:
            metadata = orjson.loads(row.value)["metadata"]
            if (metadata.get("annotations") or {}).get(_DEFAULT) == "true":
                marked.append(metadata)
        marked.sort(key=lambda one: one["name"])
        if marked:
            newest = max(marked, key=lambda one: one.get("creationTimestamp", ""))
            spec["ingressClassName"] = newest["name"]
