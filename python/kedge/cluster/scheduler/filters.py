# SPDX-License-Identifier: Apache-2.0
"""Whether a node can take a pod, each with the reason that upstream's scheduler gives. Pure.

A filter returns the reasons why not; none means that the node passes. They are asked in order, and
the first that objects speaks for the node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kedge.cluster.machinery.records import Node, Pod
from kedge.cluster.machinery.selectors import node_term_matches
from kedge.cluster.machinery.tolerations import NO_EXECUTE, NO_SCHEDULE, tolerates, untolerated
from kedge.cluster.machinery.wire import NodeSelectorTerm, PodSpec, Taint
from kedge.cluster.scheduler.snapshot import NodeInfo, ports_clash

UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", NO_SCHEDULE)

AFFINITY = "node(s) didn't match Pod's node affinity/selector"

Filter = Callable[[Pod, PodSpec, NodeInfo, Node], Sequence[str]]


def not_cordoned(_pod: Pod, spec: PodSpec, _info: NodeInfo, node: Node) -> Sequence[str]:
    """A cordoned node takes only what tolerates that."""
    if not node.unschedulable:
        return ()
    if any(tolerates(each, UNSCHEDULABLE) for each in spec.tolerations or ()):
        return ()
    return ("node(s) were unschedulable",)


def taints_tolerated(_pod: Pod, spec: PodSpec, _info: NodeInfo, node: Node) -> Sequence[str]:
    """Taints that keep pods away must be tolerated."""
    if not node.taints:
        return ()
    effects = (NO_SCHEDULE, NO_EXECUTE)
    taint = next(untolerated(node.taints, spec.tolerations or (), effects), None)
    if taint is None:
        return ()
    return (f"node(s) had untolerated taint {{{taint.key}: {taint.value or ''}}}",)


def affinity_matches(_pod: Pod, spec: PodSpec, _info: NodeInfo, node: Node) -> Sequence[str]:
    """The node selector and the required node affinity hold."""
    return () if wanted_node(spec, node) else (AFFINITY,)


def wanted_node(spec: PodSpec, node: Node) -> bool:
    """Whether node selector and required affinity select a node."""
    for key, value in (spec.node_selector or {}).items():
        if node.labels.get(key) != value:
            return False
    terms = required_terms(spec)
    return terms is None or any(node_term_matches(term, node.name, node.labels) for term in terms)


def required_terms(spec: PodSpec) -> Sequence[NodeSelectorTerm] | None:
    """The terms of the required node affinity; None when there is none."""
    if spec.affinity is None or spec.affinity.node_affinity is None:
        return None
    required = spec.affinity.node_affinity.required
    return None if required is None else required.node_selector_terms


def pinned_nodes(spec: PodSpec) -> set[str] | None:
    """The only nodes that the affinity's ``metadata.name`` fields allow; None when any may do."""
    terms = required_terms(spec)
    if not terms:
        return None
    names: set[str] = set()
    for term in terms:
        own = [
            set(each.values or ())
            for each in term.match_fields or ()
            if each.key == "metadata.name" and each.operator == "In"
        ]
        if not own:
            return None
        names |= set.intersection(*own)
    return names


def ports_free(pod: Pod, _spec: PodSpec, info: NodeInfo, _node: Node) -> Sequence[str]:
    """The host ports are free."""
    if pod.host_ports and ports_clash(pod.host_ports, info.ports):
        return ("node(s) didn't have free ports for the requested pod ports",)
    return ()


def resources_fit(pod: Pod, _spec: PodSpec, info: NodeInfo, node: Node) -> Sequence[str]:
    """What is requested is left, and one more pod is allowed."""
    reasons: list[str] = []
    if len(info.pods) + 1 > node.allocatable.get("pods", 0):
        reasons.append("Too many pods")
    for name, amount in pod.requests.items():
        if amount and info.requested.get(name, 0) + amount > node.allocatable.get(name, 0):
            reasons.append(f"Insufficient {name}")
    return reasons


FILTERS: tuple[Filter, ...] = (
    not_cordoned,
    taints_tolerated,
    affinity_matches,
    ports_free,
    resources_fit,
)
