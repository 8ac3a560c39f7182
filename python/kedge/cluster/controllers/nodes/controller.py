# SPDX-License-Identifier: Apache-2.0
"""The node lifecycle controller: conditions and taints of nodes, readiness of pods out of reach.

One timer per node, set anew only when it fires: a lease's renewal costs a comparison.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.nodes import health
from kedge.cluster.machinery import events
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from kedge.cluster.controllers.nodes.health import Health
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Lease, Node, Pod
    from kedge.cluster.machinery.wire import Object

_log = logging.getLogger(__name__)

LEASES = "kube-node-lease"
WRITES = 64
"""Pod statuses written at once."""

Conditions = list[dict[str, Any]]


class Nodes:
    """The node lifecycle controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
        grace_seconds: how long a node may be silent.
        clock: the monotonic clock; tests pass their own.
    """

    def __init__(
        self,
        client: Client,
        informer: Informer,
        recorder: Recorder,
        *,
        grace_seconds: float = health.GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._grace = grace_seconds
        self._clock = clock
        self._healths: dict[str, Health] = {}
        self._away: dict[str, Conditions] = {}
        """Nodes out of reach, with the conditions that they had."""
        self._work: Reconciler[str] = Reconciler("nodes", self._reconcile, informer)
        informer.nodes.watch(self._node_changed)
        informer.leases.watch(self._lease_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self._healths.pop(old.name, None)
                self._away.pop(old.name, None)
            return
        self._observe(new.name)
        if old is None or _matters(old) != _matters(new):
            self._work.add(new.name)

    def _lease_changed(self, _old: Lease | None, new: Lease | None) -> None:
        if new is not None and new.namespace == LEASES:
            self._observe(new.name)

    def _pod_changed(self, _old: Pod | None, new: Pod | None) -> None:
        if new is None or new.node not in self._healths:
            return
        away = new.node in self._away
        if (away and new.ready) or (not away and _is_marked(new)):
            self._work.add(new.node)

    def _observe(self, name: str) -> None:
        node = self._informer.nodes.get("", name)
        if node is None:
            return
        lease = self._informer.leases.get(LEASES, name)
        known = self._healths.get(name)
        now = health.observe(known, lease.renewed if lease else "", node.heartbeat, self._clock())
        self._healths[name] = now
        if known is None or (now is not known and name in self._away):
            self._work.add(name)

    async def _reconcile(self, name: str) -> float | None:
        node = self._informer.nodes.get("", name)
        signs = self._healths.get(name)
        if node is None or signs is None or node.deleted:
            return None
        left = health.seconds_left(signs, self._clock(), self._grace)
        if left <= 0:
            await self._lose(node, signs)
            return None
        if name in self._away or (node.ready == "Unknown" and signs.heard):
            await self._find(node)
        await self._taint(name)
        if node.ready != "Unknown":
            await self._mark_pods(name, lost=False)
        return left + 0.01

    async def _lose(self, node: Node, signs: Health) -> None:
        stored = self._stored(node)
        if stored is None:
            return
        before: Conditions = (stored.get("status") or {}).get("conditions") or []
        lost = health.lost_conditions(stored, time.time(), never_spoke=signs.never_spoke)
        self._away.setdefault(node.name, before if lost is not None else [])
        if lost is not None:
            await self._write_conditions(stored, lost)
            _log.info("a node is out of reach node=%s", node.name)
            self._say(node, "NodeNotReady", f"Node {node.name} status is now: NodeNotReady")
        await self._taint(node.name)
        await self._mark_pods(node.name, lost=True)

    async def _find(self, node: Node) -> None:
        """Takes back the conditions, unless the node itself has reported; it is the better source."""
        before = self._away.pop(node.name, [])
        stored = self._stored(node)
        if stored is None:
            return
        found = health.found_conditions(stored, before, time.time())
        if found is not None:
            await self._write_conditions(stored, found)
        await self._informer.caught_up()
        present = self._informer.nodes.get("", node.name)
        if present is not None and present.ready == "True":
            _log.info("a node is in reach again node=%s", node.name)
            self._say(node, "NodeReady", f"Node {node.name} status is now: NodeReady")
            await self._mark_pods(node.name, lost=False)

    async def _taint(self, name: str) -> None:
        stored = self._client.get(ObjectKey("", "nodes", "", name))
        taints = health.wanted_taints(stored, time.time()) if stored is not None else None
        if stored is None or taints is None:
            return
        metadata = stored["metadata"]
        await self._client.patch(
            ObjectKey("", "nodes", "", name),
            {
                "metadata": {"resourceVersion": metadata["resourceVersion"]},
                "spec": {"taints": taints or None},
            },
        )

    async def _mark_pods(self, name: str, *, lost: bool) -> None:
        slots = asyncio.Semaphore(WRITES)
        async with asyncio.TaskGroup() as group:
            for pod in self._informer.pods.on_node(name):
                if pod.ready if lost else _is_marked(pod):
                    group.create_task(self._mark_pod(pod, slots, lost=lost))

    async def _mark_pod(self, pod: Pod, slots: asyncio.Semaphore, *, lost: bool) -> None:
        async with slots:
            key = ObjectKey("", "pods", *pod.key)
            stored = self._client.get(key)
            if stored is None or stored["metadata"]["uid"] != pod.uid:
                return
            now = time.time()
            conditions = (
                health.lost_pod(stored, pod.node, now) if lost else health.found_pod(stored, now)
            )
            if conditions is None:
                return
            version = stored["metadata"]["resourceVersion"]
            try:
                await self._client.patch_status(key, {"conditions": conditions}, version=version)
            except (Conflict, NotFound):
                self._work.add(pod.node)

    def _stored(self, node: Node) -> Object | None:
        stored = self._client.get(ObjectKey("", "nodes", "", node.name))
        return stored if stored is not None and stored["metadata"]["uid"] == node.uid else None

    async def _write_conditions(self, stored: Object, conditions: Conditions) -> None:
        metadata = stored["metadata"]
        key = ObjectKey("", "nodes", "", metadata["name"])
        version = metadata["resourceVersion"]
        await self._client.patch_status(key, {"conditions": conditions}, version=version)

    def _say(self, node: Node, reason: str, message: str) -> None:
        about = events.Reference("Node", "v1", "", node.name, node.uid)
        self._recorder.record(about, events.NORMAL, reason, message)


def _is_marked(pod: Pod) -> bool:
    return not pod.ready and pod.ready_reason == health.POD_REASON


def _matters(node: Node) -> tuple[object, ...]:
    """What of a node's record this controller reacts to."""
    return (node.ready, node.ready_reason, node.taints, node.unschedulable, node.pressures)
