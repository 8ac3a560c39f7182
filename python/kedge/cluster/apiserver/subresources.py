# SPDX-License-Identifier: Apache-2.0
"""What the subresources ``binding`` and ``scale`` change and show."""

from __future__ import annotations

from typing import Any

from kedge.api import selectors
from kedge.api.meta import timestamp
from kedge.errors import Conflict

Object = dict[str, Any]


def assign(pod: Object, node: str, annotations: dict[str, str]) -> Object:
    """Puts a pod on a node.

    Raises:
        Conflict: it is on one already, or goes away.
    """
    spec, metadata = pod["spec"], pod["metadata"]
    name = metadata["name"]
    if spec.get("nodeName"):
        why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
        raise _binding_conflict(name, why)
    if "deletionTimestamp" in metadata:
        why = f"pod {name} is being deleted, cannot be assigned to a host"
        raise _binding_conflict(name, why)
    spec["nodeName"] = node
    if annotations:
        metadata.setdefault("annotations", {}).update(annotations)
    _set_scheduled(pod)
    return pod


def scale_of(obj: Object) -> Object:
    """The ``Scale`` of a workload."""
    metadata = obj["metadata"]
    selector = obj.get("spec", {}).get("selector")
    if obj.get("kind") == "ReplicationController":
        selector = {"matchLabels": selector}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": obj.get("spec", {}).get("replicas", 0)},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": selectors.text(selector),
        },
    }


def _binding_conflict(name: str, why: str) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on pods/binding "{name}": {why}',
        {"name": name, "kind": "pods/binding"},
    )


def _set_scheduled(pod: Object) -> None:
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    conditions[:] = [one for one in conditions if one.get("type") != "PodScheduled"]
    conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp()})
