# SPDX-License-Identifier: Apache-2.0
"""What a RuntimeClass gives the pods that name it: overhead, node selector, tolerations; pure."""

from __future__ import annotations

from typing import Any

from kedge.api import quantities

Object = dict[str, Any]


def apply(found: Object, spec: Object) -> str:
    """Completes a pod's spec; why that cannot be, or nothing.

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
