# SPDX-License-Identifier: Apache-2.0
"""The DaemonSet controller."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kedge.api import kinds
from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.daemon_sets.placement import Template, place, pod_for
from kedge.cluster.controllers.daemon_sets.plan import OnNode, Planner, strategy_of
from kedge.cluster.controllers.daemon_sets.status import status_of
from kedge.cluster.machinery import events
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.owners import adopt, controller_reference, release
from kedge.cluster.machinery.reconciler import Reconciler, together
from kedge.cluster.machinery.revisions import POD_LABEL, History, digest_of, forgettable
from kedge.cluster.machinery.selectors import is_empty, labels_match
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from kedge.cluster.controllers.daemon_sets.plan import Plan
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Node, Pod, Workload
    from kedge.cluster.machinery.revisions import Settled
    from kedge.cluster.machinery.wire import Object

NODE_DELAY_SECONDS = 0.02
"""Nodes that change together are looked at together."""
WRITES = 64
"""Writes under way at once."""
KIND = kinds.of("apps", "daemonsets")


class DaemonSets:
    """The DaemonSet controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(self, client: Client, informer: Informer, recorder: Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._history = History(client, informer.store, KIND, POD_LABEL)
        self._work: Reconciler[Key] = Reconciler("daemonsets", self._reconcile, informer, workers=2)
        informer.daemon_sets.watch(self._daemon_set_changed)
        informer.nodes.watch(self._node_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _daemon_set_changed(self, old: Workload | None, new: Workload | None) -> None:
        record = new or old
        if record is not None:
            self._work.add(record.key)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and _matters(old) == _matters(new):
            return
        for record in self._informer.daemon_sets:
            self._work.add_after(record.key, NODE_DELAY_SECONDS)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            if pod.owner is not None:
                if pod.owner.kind == "DaemonSet":
                    self._work.add((pod.namespace, pod.owner.name))
            elif new is not None and pod.active and len(self._informer.daemon_sets):
                for record in self._informer.daemon_sets.within(pod.namespace):
                    if labels_match(record.selector, pod.labels):
                        self._work.add(record.key)

    async def _reconcile(self, key: Key) -> float | None:
        record = self._informer.daemon_sets.get(*key)
        stored = self._client.get(ObjectKey("apps", "daemonsets", *key))
        if record is None or stored is None or stored["metadata"]["uid"] != record.uid:
            return None
        if is_empty(record.selector):
            return None
        await self._claim(record)
        template = Template.of(stored["spec"]["template"])
        collisions = (stored.get("status") or {}).get("collisionCount") or 0
        digest = digest_of(stored["spec"]["template"], collisions)
        failure: KedgeError | None = None
        if not record.deleted:
            settled = await self._history.settle(record, stored)
            digest = settled.update.labels.get(POD_LABEL, "")
            collisions = settled.collisions
            await self._merge_twins(record, settled, digest)
            nodes = self._nodes(record, template)
            desired = sum(each.place.should_run for each in nodes)
            strategy = strategy_of(stored["spec"], desired)
            now = time.time()
            planner = Planner(digest, strategy, record.min_ready_seconds, now)
            failure = await self._act(record, stored, digest, planner.plan(nodes))
            await self._informer.caught_up()
            await self._forget(record, stored, settled)
        nodes = self._nodes(record, template)
        status = status_of(record, digest, nodes, time.time())
        if collisions:
            status["collisionCount"] = collisions
        patch = changed_fields(_counts(stored.get("status") or {}), status)
        if patch:
            daemon_set = ObjectKey("apps", "daemonsets", *key)
            await self._client.patch_status(daemon_set, patch, uid=record.uid)
        if failure is not None:
            raise failure
        return self._next_available(record, nodes)

    async def _merge_twins(self, record: Workload, settled: Settled, digest: str) -> None:
        """Pods of a revision with the same template are the present one's: none is made anew."""
        twins = settled.twins
        if not twins:
            return
        hashes = {each.labels.get(POD_LABEL) for each in twins} - {digest}
        for pod in self._informer.pods.owned_by(record.uid):
            if pod.labels.get(POD_LABEL) in hashes and not pod.deleted:
                patch = {"metadata": {"uid": pod.uid, "labels": {POD_LABEL: digest}}}
                await self._client.patch(ObjectKey("", "pods", *pod.key), patch)
        await self._history.forget(record, twins)
        await self._informer.caught_up()

    async def _forget(self, record: Workload, stored: Object, settled: Settled) -> None:
        limit = stored["spec"].get("revisionHistoryLimit", 10)
        kept = {settled.update.name, *(each.name for each in settled.twins)}
        old = [each for each in settled.all if each.name not in kept]
        if len(old) <= limit:
            return
        pods = self._informer.pods.owned_by(record.uid)
        used = {pod.labels.get(POD_LABEL) for pod in pods}
        live = {each.name for each in old if each.labels.get(POD_LABEL) in used}
        await self._history.forget(record, forgettable(old, live, limit, live_count=True))

    async def _claim(self, record: Workload) -> None:
        if record.deleted:
            return
        pods = self._informer.pods
        reference = controller_reference("apps/v1", "DaemonSet", record)
        for pod in pods.strays(record.namespace):
            if pod.active and labels_match(record.selector, pod.labels):
                await adopt(self._client, ObjectKey("", "pods", *pod.key), pod.uid, reference)
        for pod in pods.owned_by(record.uid):
            if not pod.deleted and not labels_match(record.selector, pod.labels):
                await release(self._client, ObjectKey("", "pods", *pod.key), pod.uid, record.uid)
        await self._informer.caught_up()

    def _nodes(self, record: Workload, template: Template) -> list[OnNode]:
        by_node: dict[str, list[Pod]] = {}
        for pod in self._informer.pods.owned_by(record.uid):
            by_node.setdefault(pod.node or _pinned_to(pod), []).append(pod)
        return [
            OnNode(
                node.name,
                place(template, node),
                node.ready != "Unknown",
                tuple(by_node.get(node.name, ())),
            )
            for node in self._informer.nodes
        ]

    async def _act(
        self, record: Workload, stored: Object, digest: str, plan: Plan
    ) -> KedgeError | None:
        for pod in plan.failed:
            message = f"Found failed daemon pod {pod.namespace}/{pod.name} on node {pod.node}, will try to kill it"
            self._say(record, events.WARNING, "FailedDaemonPod", message)
        slots = asyncio.Semaphore(WRITES)
        failure: KedgeError | None = None
        try:
            template = stored["spec"]["template"]
            bodies = [pod_for(record, template, digest, node) for node in plan.create]
            await together(
                [
                    *(self._delete(record, pod, slots) for pod in plan.delete),
                    *(self._create(record, body, slots) for body in bodies),
                ]
            )
        except KedgeError as error:
            failure = error
        return failure

    async def _create(self, record: Workload, body: Object, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                key = ObjectKey("", "pods", record.namespace, "")
                created = await self._client.create(key, body)
            except KedgeError as error:
                self._say(record, events.WARNING, "FailedCreate", f"Error creating: {error}")
                raise
        name = created["metadata"]["name"]
        self._say(record, events.NORMAL, "SuccessfulCreate", f"Created pod: {name}")

    async def _delete(self, record: Workload, pod: Pod, slots: asyncio.Semaphore) -> None:
        async with slots:
            await self._client.delete(ObjectKey("", "pods", *pod.key), uid=pod.uid)
        self._say(record, events.NORMAL, "SuccessfulDelete", f"Deleted pod: {pod.name}")

    def _say(self, record: Workload, kind: str, reason: str, message: str) -> None:
        about = events.Reference("DaemonSet", "apps/v1", *record.key, record.uid)
        self._recorder.record(about, kind, reason, message)

    @staticmethod
    def _next_available(record: Workload, nodes: list[OnNode]) -> float | None:
        now = time.time()
        waits = [
            pod.ready_since + record.min_ready_seconds - now
            for node in nodes
            for pod in node.pods
            if pod.ready and not pod.available(record.min_ready_seconds, now)
        ]
        return max(min(waits), 0.001) if waits else None


def _counts(status: Object) -> Object:
    """What of a status is written here: conditions are left to whoever wrote them."""
    return {field: value for field, value in status.items() if field != "conditions"}


def _matters(node: Node) -> tuple[object, ...]:
    """What of a node decides on daemon pods."""
    return (node.labels, node.taints, node.ready == "Unknown", node.deleted)


def _pinned_to(pod: Pod) -> str:
    """The node that a pod waits for."""
    affinity = pod.pending.affinity.node_affinity if pod.pending and pod.pending.affinity else None
    terms = affinity.required.node_selector_terms if affinity and affinity.required else ()
    for term in terms:
        for each in term.match_fields or ():
            if each.key == "metadata.name" and each.values:
                return each.values[0]
    return ""
