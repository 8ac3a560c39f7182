# SPDX-License-Identifier: Apache-2.0
"""LimitRanger: the LimitRanges of a namespace complete its new pods, and bound them and its claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import limits
from kedge.cluster.apiserver.admission.write import CREATE, UPDATE, Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.keys import ObjectKey
    from kedge.api.kinds import Kind
    from kedge.store import Store

Object = dict[str, Any]

MAX_KNOWN = 10_000
"""Namespaces whose LimitRanges are kept at hand."""


class LimitRanger(Plugin):
    """The plugin. Pods are looked at when they are made or resized, claims whenever they change."""

    operations = (CREATE, UPDATE)

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._known: dict[str, list[Object]] = {}

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod or a claim."""
        if is_core(kind, "pods"):
            return subresource in ("", "resize")
        return is_core(kind, "persistentvolumeclaims") and not subresource

    async def admit(self, write: Write) -> None:
        """Gives a pod the defaults."""
        if write.operation == CREATE and write.kind.resource == "pods":
            for one in self._ranges(write.key.namespace):
                limits.complete(one, write.obj)

    async def validate(self, write: Write) -> None:
        """Refuses.

        Raises:
            Forbidden: a bound is not kept.
        """
        is_pod = write.kind.resource == "pods"
        if is_pod and write.operation != CREATE and not write.subresource:
            return
        check = limits.check_pod if is_pod else limits.check_claim
        for one in self._ranges(write.key.namespace):
            found = list(dict.fromkeys(check(one, write.obj)))
            if found:
                raise write.forbidden(found[0] if len(found) == 1 else f"[{', '.join(found)}]")

    def written(self, key: ObjectKey) -> None:
        """Reads a namespace's LimitRanges again when one may have changed."""
        if key.resource == "limitranges" and not key.group:
            self._known.pop(key.namespace, None)

    def _ranges(self, namespace: str) -> list[Object]:
        found = self._known.get(namespace)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            rows = self.store.list("", "limitranges", namespace=namespace).items
            found = self._known[namespace] = [orjson.loads(row.value) for row in rows]
        return found
