# SPDX-License-Identifier: Apache-2.0
"""What the scheduler knows of nodes and the pods on them, kept up pod by pod.

Adding or removing a pod costs the same however many there are: a node's sums, its ports, and the
counts that spreading needs are updated, never computed anew. Counts by label selector exist only
for selectors that some pod used lately.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kedge.cluster.machinery.selectors import labels_match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kedge.cluster.machinery.records import HostPort, Key, Node, Pod
    from kedge.cluster.machinery.resources import Amounts
    from kedge.cluster.machinery.wire import LabelSelector

SELECTORS_KEPT = 256

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - the API's word for all addresses of a node


@dataclass(slots=True)
class NodeInfo:
    """A node with what its pods take of it."""

    node: Node | None
    """None while pods are bound to a node that is not known (yet)."""
    pods: dict[Key, Pod] = field(default_factory=dict)
    requested: Amounts = field(default_factory=dict)
    ports: Counter[HostPort] = field(default_factory=Counter)

    def add(self, pod: Pod) -> None:
        """Counts a pod in."""
        self.pods[pod.key] = pod
        for name, amount in pod.requests.items():
            self.requested[name] = self.requested.get(name, 0) + amount
        self.ports.update(pod.host_ports)

    def remove(self, pod: Pod) -> None:
        """Counts a pod out."""
        del self.pods[pod.key]
        for name, amount in pod.requests.items():
            self.requested[name] -= amount
        self.ports.subtract(pod.host_ports)
        for port in pod.host_ports:
            if not self.ports[port]:
                del self.ports[port]


@dataclass(slots=True)
class _Selected:
    """Pods that a selector selects, by node."""

    namespace: str
    selector: LabelSelector
    by_node: Counter[str] = field(default_factory=Counter)

    def selects(self, pod: Pod) -> bool:
        return (
            pod.namespace == self.namespace
            and not pod.deleted
            and labels_match(self.selector, pod.labels)
        )


class Snapshot:
    """Nodes and bound or assumed pods."""

    def __init__(self) -> None:
        self._infos: dict[str, NodeInfo] = {}
        self._names: list[str] = []
        self._turn = 0
        self._where: dict[Key, tuple[str, Pod]] = {}
        self._owners: dict[str, Counter[str]] = {}
        self._selected: OrderedDict[tuple[str, str], _Selected] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def get(self, name: str) -> NodeInfo | None:
        """A node that exists, with its pods."""
        info = self._infos.get(name)
        return info if info is not None and info.node is not None else None

    def nodes(self) -> Iterator[NodeInfo]:
        """All nodes; each time from where the last look ended, so that equals take turns."""
        count = len(self._names)
        for offset in range(count):
            yield self._infos[self._names[(self._turn + offset) % count]]

    def advance(self, looked_at: int) -> None:
        """Begins the next look after the nodes that this one has seen."""
        if self._names:
            self._turn = (self._turn + max(looked_at, 1)) % len(self._names)

    def put_node(self, node: Node) -> None:
        """Adds or replaces a node."""
        info = self._infos.get(node.name)
        if info is None:
            info = self._infos[node.name] = NodeInfo(None)
        if info.node is None:
            self._names.append(node.name)
        info.node = node

    def remove_node(self, name: str) -> None:
        """Removes a node; pods still bound to it stay counted in case it comes back."""
        info = self._infos.get(name)
        if info is None or info.node is None:
            return
        info.node = None
        self._names.remove(name)
        if not info.pods:
            del self._infos[name]

    def put_pod(self, pod: Pod, node: str) -> None:
        """Places a pod on a node, or moves it in from an older version of itself."""
        self.remove_pod(pod.key)
        info = self._infos.setdefault(node, NodeInfo(None))
        info.add(pod)
        self._where[pod.key] = (node, pod)
        self._count(pod, node, 1)

    def remove_pod(self, key: Key) -> None:
        """Takes a pod away, if it is there."""
        placed = self._where.pop(key, None)
        if placed is None:
            return
        node, pod = placed
        self._count(pod, node, -1)
        info = self._infos[node]
        info.remove(pod)
        if info.node is None and not info.pods:
            del self._infos[node]

    def holds(self, key: Key) -> bool:
        """Whether the pod is placed."""
        return key in self._where

    def owned_by_node(self, owner_uid: str) -> Counter[str]:
        """Pods of one controller, by node."""
        return self._owners.get(owner_uid) or Counter()

    def selected_by_node(self, namespace: str, selector: LabelSelector) -> Counter[str]:
        """Pods that a selector selects, by node."""
        key = (namespace, _identity(selector))
        found = self._selected.get(key)
        if found is None:
            found = self._selected[key] = _Selected(namespace, selector)
            for node, pod in self._where.values():
                if found.selects(pod):
                    found.by_node[node] += 1
            if len(self._selected) > SELECTORS_KEPT:
                self._selected.popitem(last=False)
        self._selected.move_to_end(key)
        return found.by_node

    def _count(self, pod: Pod, node: str, change: int) -> None:
        if pod.owner is not None:
            owned = self._owners.setdefault(pod.owner.uid, Counter())
            _change(owned, node, change)
            if not owned:
                del self._owners[pod.owner.uid]
        for selected in self._selected.values():
            if selected.selects(pod):
                _change(selected.by_node, node, change)


def _change(counts: Counter[str], node: str, change: int) -> None:
    counts[node] += change
    if not counts[node]:
        del counts[node]


def _identity(selector: LabelSelector) -> str:
    labels = sorted((selector.match_labels or {}).items())
    return f"{labels}{selector.match_expressions}"


def ports_clash(wanted: tuple[HostPort, ...], taken: Counter[HostPort]) -> bool:
    """Whether a wanted host port is taken: the same port and protocol, on overlapping addresses."""
    return any(
        port.port == other.port
        and port.protocol == other.protocol
        and (port.address == other.address or ANY_ADDRESS in {port.address, other.address})
        for port in wanted
        for other in taken
    )
