# SPDX-License-Identifier: Apache-2.0
"""On which nodes a DaemonSet's pods belong, and the pod for one of them. Pure.

A pod is pinned to its node by a required node affinity on ``metadata.name``; the scheduler binds it.
It tolerates what upstream's daemon pods do: a node that is not ready, out of reach, cordoned or
short of something still runs its daemons.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kedge.cluster.machinery.owners import controller_reference
from kedge.cluster.machinery.revisions import POD_LABEL
from kedge.cluster.machinery.selectors import node_term_matches
from kedge.cluster.machinery.tolerations import NO_EXECUTE, NO_SCHEDULE, untolerated
from kedge.cluster.machinery.wire import PodSpec, Toleration

if TYPE_CHECKING:
    from kedge.cluster.machinery.records import Node, Workload
    from kedge.cluster.machinery.wire import Object

GENERATION = "pod-template-generation"

_TOLERATED = (
    ("not-ready", NO_EXECUTE),
    ("unreachable", NO_EXECUTE),
    ("disk-pressure", NO_SCHEDULE),
    ("memory-pressure", NO_SCHEDULE),
    ("pid-pressure", NO_SCHEDULE),
    ("unschedulable", NO_SCHEDULE),
)

_decoder = msgspec.json.Decoder(PodSpec)


@dataclass(frozen=True, slots=True)
class Place:
    """What a DaemonSet has to do with a node."""

    should_run: bool
    """A pod is to be created if there is none."""
    may_stay: bool
    """A pod that is there goes on."""


@dataclass(frozen=True, slots=True)
class Template:
    """What of a template decides on nodes."""

    spec: PodSpec
    tolerations: tuple[Toleration, ...]

    @classmethod
    def of(cls, template: Object) -> Template:
        """Reads a pod template."""
        spec = _decoder.decode(json.dumps(template.get("spec") or {}).encode())
        added = msgspec.convert(_tolerations(template), tuple[Toleration, ...])
        return cls(spec, (*(spec.tolerations or ()), *added))


def place(template: Template, node: Node) -> Place:
    """Whether a node gets, or keeps, a pod of the template."""
    spec = template.spec
    if node.deleted or not _selected(spec, node):
        return Place(should_run=False, may_stay=False)
    tolerations = template.tolerations
    if next(untolerated(node.taints, tolerations, (NO_EXECUTE,)), None) is not None:
        return Place(should_run=False, may_stay=False)
    kept_off = next(untolerated(node.taints, tolerations, (NO_SCHEDULE,)), None)
    return Place(should_run=kept_off is None, may_stay=True)


def _selected(spec: PodSpec, node: Node) -> bool:
    if spec.node_name and spec.node_name != node.name:
        return False
    if any(node.labels.get(key) != value for key, value in (spec.node_selector or {}).items()):
        return False
    affinity = spec.affinity.node_affinity if spec.affinity else None
    if affinity is None or affinity.required is None:
        return True
    terms = affinity.required.node_selector_terms
    return any(node_term_matches(term, node.name, node.labels) for term in terms)


def pod_for(record: Workload, template: Object, digest: str, node: str) -> Object:
    """The pod of a DaemonSet for one node."""
    metadata = template.get("metadata") or {}
    labels = metadata.get("labels") or {}
    spec = dict(template.get("spec") or {})
    spec["affinity"] = _pinned(spec.get("affinity") or {}, node)
    spec["tolerations"] = [*(spec.get("tolerations") or []), *_tolerations(template)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{record.name}-",
            "namespace": record.namespace,
            "labels": {**labels, POD_LABEL: digest, GENERATION: str(record.generation)},
            "annotations": metadata.get("annotations") or {},
            "finalizers": metadata.get("finalizers") or [],
            "ownerReferences": [controller_reference("apps/v1", "DaemonSet", record)],
        },
        "spec": spec,
    }


def _pinned(affinity: dict[str, Any], node: str) -> dict[str, Any]:
    """The affinity, with every required term (or one of its own) narrowed to the node."""
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    pin = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    terms = (affinity.get("nodeAffinity", {}).get(field) or {}).get("nodeSelectorTerms") or [{}]
    narrowed = [{**term, "matchFields": pin} for term in terms]
    required = {field: {"nodeSelectorTerms": narrowed}}
    return {**affinity, "nodeAffinity": {**affinity.get("nodeAffinity", {}), **required}}


def _tolerations(template: Object) -> list[dict[str, str]]:
    keys = list(_TOLERATED)
    if (template.get("spec") or {}).get("hostNetwork"):
        keys.append(("network-unavailable", NO_SCHEDULE))
    return [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect}
        for key, effect in keys
    ]
