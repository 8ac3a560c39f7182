# SPDX-License-Identifier: Apache-2.0
"""The Priority admission: a pod's number from the name of its class, or from the default class.

Nodes that run short, or shut down, end pods in the order of this number. A class that is named must
exist; a number that contradicts it is refused. Source: Kubernetes' Priority admission plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver import failures

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


def resolve(store: Store, kind: Kind, key: ObjectKey, spec: Object) -> None:
    """Sets ``priority`` and ``preemptionPolicy`` of a new pod's spec.

    Raises:
        Forbidden: the class does not exist, or the pod asks for another number than its class has.
    """
    name = spec.get("priorityClassName", "")
    found = _named(store, kind, key, name) if name else _default(store)
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
            raise failures.forbidden(kind, key.name, why)


def _named(store: Store, kind: Kind, key: ObjectKey, name: str) -> Object:
    found = store.get(ObjectKey(GROUP, RESOURCE, "", name))
    if found is None:
        raise failures.forbidden(kind, key.name, f"no PriorityClass with name {name} was found")
    obj: Object = orjson.loads(found.value)
    return obj


def _default(store: Store) -> Object | None:
    """The global default with the lowest value, if there is one."""
    rows = store.list(GROUP, RESOURCE).items
    classes = [orjson.loads(row.value) for row in rows if b'"globalDefault":true' in row.value]
    return min(classes, key=lambda one: one.get("value", 0), default=None)
