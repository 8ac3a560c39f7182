# SPDX-License-Identifier: Apache-2.0
"""LimitRanger: the LimitRanges of a namespace complete its new pods, and bound them and its claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import limits
from kedge.cluster.apiserver.admission.write import CREATE, UPDATE, Plugin, Write, is_core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.api.kinds import Kind

Object = dict[str, Any]


class LimitRanger(Plugin):
    """The plugin. Pods are looked at when they are made, claims also when they change."""

    operations = (CREATE, UPDATE)

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod or a claim."""
        return not subresource and (
            is_core(kind, "pods") or is_core(kind, "persistentvolumeclaims")
        )

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
        if is_pod and write.operation != CREATE:
            return
        check = limits.check_pod if is_pod else limits.check_claim
        for one in self._ranges(write.key.namespace):
            found = list(dict.fromkeys(check(one, write.obj)))
            if found:
                raise write.forbidden(found[0] if len(found) == 1 else f"[{', '.join(found)}]")

    def _ranges(self, namespace: str) -> Iterator[Object]:
        for row in self.store.list("", "limitranges", namespace=namespace).items:
            yield orjson.loads(row.value)
