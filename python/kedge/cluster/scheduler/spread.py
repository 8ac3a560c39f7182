# SPDX-License-Identifier: Apache-2.0
"""Spreading pods over hosts and zones. Pure.

A constraint counts the pods that its selector selects in each domain (the nodes with one value of
its topology key). A hard one rejects nodes that would lift a domain too far above the emptiest; a
soft one prefers emptier domains. A pod with a controller and no constraints of its own is spread
softly over zones and hosts, counting its controller's pods.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.cluster.machinery.selectors import labels_match
from kedge.cluster.machinery.wire import LabelSelector, PodSpec, Requirement, SpreadConstraint
from kedge.cluster.scheduler.filters import wanted_node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kedge.cluster.machinery.records import Node, Pod
    from kedge.cluster.scheduler.snapshot import Snapshot

HOST = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"

SKEWED = "node(s) didn't match pod topology spread constraints"
UNLABELLED = "node(s) didn't match pod topology spread constraints (missing required label)"


@dataclass(slots=True)
class _Hard:
    key: str
    max_skew: int
    own: int
    least: int
    domains: Counter[str]


class HardSpread:
    """The hard constraints of one pod, counted over the nodes that it may use.

    Args:
        pod: the pod.
        spec: its spec.
        snapshot: nodes and pods.
    """

    def __init__(self, pod: Pod, spec: PodSpec, snapshot: Snapshot) -> None:
        hard = [
            each
            for each in spec.topology_spread_constraints or ()
            if each.when_unsatisfiable == "DoNotSchedule"
        ]
        self._constraints: list[_Hard] = []
        if hard:
            keys = {each.topology_key for each in hard}
            usable = [
                info.node
                for info in snapshot.nodes()
                if info.node is not None
                and keys <= info.node.labels.keys()
                and wanted_node(spec, info.node)
            ]
            self._constraints = [_counted(pod, each, usable, snapshot) for each in hard]

    def reasons(self, node: Node) -> Sequence[str]:
        """Why a node may not take the pod."""
        for each in self._constraints:
            domain = node.labels.get(each.key)
            if domain is None:
                return (UNLABELLED,)
            if each.domains[domain] + each.own - each.least > each.max_skew:
                return (SKEWED,)
        return ()


def _counted(
    pod: Pod, constraint: SpreadConstraint, usable: Iterable[Node], snapshot: Snapshot
) -> _Hard:
    selector = _selector(pod, constraint)
    on_nodes = snapshot.selected_by_node(pod.namespace, selector)
    domains: Counter[str] = Counter()
    for node in usable:
        domains[node.labels[constraint.topology_key]] += on_nodes.get(node.name, 0)
    least = min(domains.values(), default=0)
    if constraint.min_domains is not None and len(domains) < constraint.min_domains:
        least = 0
    own = int(labels_match(selector, pod.labels))
    return _Hard(constraint.topology_key, constraint.max_skew, own, least, domains)


def _selector(pod: Pod, constraint: SpreadConstraint) -> LabelSelector:
    """The constraint's selector, with the pod's own values of ``matchLabelKeys``."""
    selector = constraint.label_selector or LabelSelector(
        match_expressions=(Requirement("", "Never"),)
    )
    extra = tuple(
        Requirement(key, "In", (pod.labels[key],))
        for key in constraint.match_label_keys or ()
        if key in pod.labels
    )
    if not extra:
        return selector
    return LabelSelector(selector.match_labels, (*(selector.match_expressions or ()), *extra))


def soft_scores(
    pod: Pod, spec: PodSpec, snapshot: Snapshot, nodes: Sequence[Node]
) -> Mapping[str, float]:
    """0 to 100 for each node: the emptier its domains, the more; empty when nothing asks for it."""
    counted = _soft_counts(pod, spec, snapshot)
    if not counted:
        return {}
    load = dict.fromkeys((node.name for node in nodes), 0.0)
    for key, max_skew, on_nodes in counted:
        domains: Counter[str] = Counter()
        for node in nodes:
            domains[node.labels.get(key, "")] += on_nodes.get(node.name, 0)
        for node in nodes:
            domain = node.labels.get(key)
            load[node.name] += domains[domain] / max_skew if domain is not None else 0.0
    low, high = min(load.values()), max(load.values())
    if high == low:
        return dict.fromkeys(load, 100.0)
    return {name: 100.0 * (high - value) / (high - low) for name, value in load.items()}


def _soft_counts(
    pod: Pod, spec: PodSpec, snapshot: Snapshot
) -> list[tuple[str, int, Mapping[str, int]]]:
    constraints = spec.topology_spread_constraints or ()
    if constraints:
        return [
            (
                each.topology_key,
                each.max_skew,
                snapshot.selected_by_node(pod.namespace, _selector(pod, each)),
            )
            for each in constraints
            if each.when_unsatisfiable == "ScheduleAnyway"
        ]
    if pod.owner is None or pod.owner.kind == "DaemonSet":
        return []
    owned = snapshot.owned_by_node(pod.owner.uid)
    return [(HOST, 3, owned), (ZONE, 5, owned)]
