# SPDX-License-Identifier: Apache-2.0
"""RuntimeClass: what a class gives the pods that name it: overhead, node selector, tolerations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kedge.api import quantities
from kedge.api.keys import ObjectKey
from kedge.cluster.apiserver.admission.write import Plugin, Write, is_core

if TYPE_CHECKING:
    from kedge.api.kinds import Kind

Object = dict[str, Any]


class RuntimeClass(Plugin):
    """The plugin."""

    def concerns(self, kind: Kind, subresource: str) -> bool:
        """Whether it is a pod."""
        return is_core(kind, "pods") and not subresource

    async def admit(self, write: Write) -> None:
        """Gives a pod its class's overhead and its place among nodes.

        Raises:
            Forbidden: there is no such class, or the pod contradicts it.
        """
        spec = write.obj["spec"]
        name = spec.get("runtimeClassName")
        if not name:
            if spec.get("overhead"):
                why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                raise write.forbidden(why)
            return
        found = self.store.get(ObjectKey("node.k8s.io", "runtimeclasses", "", name))
        if found is None:
            raise write.forbidden(f'pod rejected: RuntimeClass "{name}" not found')
        problem = apply(orjson.loads(found.value), spec)
        if problem:
            raise write.forbidden(problem)


def apply(found: Object, spec: Object) -> str:
    """Completes a pod's spec; why that cannot be, or nothing. Pure.

    Args:
        found: the RuntimeClass.
        spec: of a pod that names it; changed.
    """
    overhead = (found.get("overhead") or {}).get("podFixed") or {}
    if spec.get("overhead") and not _same(spec["overhead"], overhead):
        return "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    scheduling = found.get("scheduling") or {}
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.setdefault(key, value) != value:
            return (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
    if overhead:
        spec["overhead"] = dict(overhead)
    if selector:
        spec["nodeSelector"] = selector
    for toleration in scheduling.get("tolerations") or []:
        if toleration not in spec.setdefault("tolerations", []):
            spec["tolerations"].append(toleration)
    return ""


def _same(one: Object, other: Object) -> bool:
    if one.keys() != other.keys():
        return False
    return all(quantities.parse(one[key]) == quantities.parse(other[key]) for key in one)
