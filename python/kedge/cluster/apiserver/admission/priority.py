# SPDX-License-Identifier: Apache-2.0
"""The Priority admission: a pod's number from the name of its class, or from the default class.

Nodes that run short, or shut down, end pods in the order of this number. A class that is named must
exist; a number that contradicts it is refused. Source: Kubernetes' Priority admission plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.write import Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.kinds import Kind
    from kedge.store import Store

Object = dict[str, Any]
GROUP, RESOURCE = "scheduling.k8s.io", "priorityclasses"
DEFAULT_POLICY = "PreemptLowerPriority"
SYSTEM: dict[str, tuple[int, str]] = {
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved.",
    ),
}
"""The classes that every cluster has: value and description."""


class Priority(Plugin):
    """The admission of priorities. Default classes are read once, and again after a class was written.

    Args:
        store: where classes are.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._defaults: list[Object] | None = None

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod."""
        return is_core(kind, "pods") and not subresource

    def written(self, key: ObjectKey) -> None:
        """Reads the default classes again when one may have changed."""
        if (key.group, key.resource) == (GROUP, RESOURCE):
            self._defaults = None

    async def admit(self, write: Write) -> None:
        """Sets ``priority`` and ``preemptionPolicy`` of a new pod's spec.

        Raises:
            Forbidden: the class does not exist, or the pod asks for another number than its class has.
        """
        spec = write.obj["spec"]
        name = spec.get("priorityClassName", "")
        found = self._named(write, name) if name else self._default()
        if found is not None and not name:
            spec["priorityClassName"] = found["metadata"]["name"]
        value = found.get("value", 0) if found is not None else 0
        policy = (found or {}).get("preemptionPolicy", DEFAULT_POLICY)
        for field, wanted in (("priority", value), ("preemptionPolicy", policy)):
            if spec.setdefault(field, wanted) != wanted:
                what = (
                    "the integer value of priority"
                    if field == "priority"
                    else "the string value of PreemptionPolicy"
                )
                why = (
                    f"{what} ({spec[field]}) must not be provided in pod spec; priority admission controller "
                    f"computed {wanted} from the given PriorityClass name"
                )
                raise write.forbidden(why)

    def _named(self, write: Write, name: str) -> Object:
        found = self.store.get(ObjectKey(GROUP, RESOURCE, "", name))
        if found is None:
            raise write.forbidden(f"no PriorityClass with name {name} was found")
        obj: Object = orjson.loads(found.value)
        return obj

    def _default(self) -> Object | None:
        """The global default with the lowest value, if there is one."""
        if self._defaults is None:
            rows = self.store.list(GROUP, RESOURCE).items
            marked = [row.value for row in rows if b'"globalDefault":true' in row.value]
            self._defaults = [orjson.loads(value) for value in marked]
        return min(self._defaults, key=lambda one: one.get("value", 0), default=None)
