# SPDX-License-Identifier: Apache-2.0
"""Feeds the scheduler's heart from the informer, and binds.

A pod that is given a node is assumed there at once, so that the next one sees it, and bound
concurrently with others: their writes share one commit. A binding that fails takes the assumption
back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from kedge.aio import wait_at_most
from kedge.api.keys import ObjectKey
from kedge.cluster.machinery import conditions, events
from kedge.cluster.machinery.events import Recorder
from kedge.cluster.scheduler.core import Placed, schedule
from kedge.cluster.scheduler.snapshot import Snapshot
from kedge.cluster.scheduler.volumes import NO_ROOM, Storage
from kedge.cluster.scheduler.waiting import Waiting
from kedge.errors import Conflict, KedgeError, NotFound

if TYPE_CHECKING:
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Node, Pod
    from kedge.cluster.machinery.wire import PodSpec

_log = logging.getLogger(__name__)

NAME = "default-scheduler"
BATCH = 64
"""Pods decided between two turns of the loop."""
BINDS = 256
"""Writes under way at once."""


class Scheduler:
    """The scheduler.

    Args:
        client: binds pods and writes conditions.
        informer: knows pods and nodes.
        name: the ``schedulerName`` that it serves.
    """

    def __init__(self, client: Client, informer: Informer, name: str = NAME) -> None:
        self._client = client
        self._informer = informer
        self._name = name
        self._snapshot = Snapshot()
        self._waiting = Waiting()
        self._recorder = Recorder(client, name)
        self._assumed: dict[Key, str] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(BINDS)
        self._storage = Storage(client, informer)
        for cache in (informer.claims, informer.volumes, informer.classes):
            cache.watch(self._storage_changed)
        informer.nodes.watch(self._node_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Schedules until cancelled."""
        await self._informer.synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._recorder.run())
            while True:
                self._work(group)
                await self._pause()

    def _work(self, group: asyncio.TaskGroup) -> None:
        for _ in range(BATCH):
            pod = self._waiting.pop()
            if pod is None:
                return
            self._schedule(pod, group)
        self._wake.set()

    async def _pause(self) -> None:
        due = self._waiting.wake(time.monotonic())
        if due == 0 or self._wake.is_set():
            self._wake.clear()
            await asyncio.sleep(0)
            return
        await wait_at_most(self._wake, due)
        self._wake.clear()

    def _schedule(self, pod: Pod, group: asyncio.TaskGroup) -> None:
        if pod.pending is None:
            return
        needs = self._storage.needs(pod)
        result = schedule(pod, pod.pending, self._snapshot, needs)
        if isinstance(result, Placed):
            self._assumed[pod.key] = pod.uid
            self._snapshot.put_pod(pod, result.node)
            for field in unread(pod.pending):
                text = f"spec.{field} is not honoured by this scheduler: placed without it"
                self._recorder.record(_about(pod), events.WARNING, "NotHonoured", text)
            if needs is None:
                group.create_task(self._bind(pod, result.node))
            else:
                choices = self._storage.promise(needs, result.node)
                group.create_task(self._bind_claims(pod, result.node, choices))
            return
        self._waiting.park(pod, time.monotonic())
        self._recorder.record(_about(pod), events.WARNING, "FailedScheduling", result.message)
        for claim in needs.short[:1] if needs is not None else ():
            text = f'failed to provision volume: {NO_ROOM} for pod "{pod.name}": {result.message}'
            about = events.Reference(
                "PersistentVolumeClaim", "v1", claim.namespace, claim.name, claim.uid
            )
            self._recorder.record(about, events.WARNING, "ProvisioningFailed", text)
        group.create_task(self._explain(pod, result.message))

    async def _bind_claims(self, pod: Pod, node: str, choices: dict[Key, str]) -> None:
        """Binds a pod's claims, then the pod."""
        try:
            bound = await self._storage.bind(pod, node, choices)
            why = "binding volumes: provisioning failed for PVC" if not bound else ""
        except KedgeError as error:
            bound, why = False, f"binding volumes: {error}"
        if bound:
            await self._bind(pod, node)
            return
        self._unassume(pod)
        message = f'running PreBind plugin "VolumeBinding": {why}'
        self._recorder.record(_about(pod), events.WARNING, "FailedScheduling", message)
        self._retry(pod)

    async def _bind(self, pod: Pod, node: str) -> None:
        async with self._slots:
            try:
                await self._client.bind(pod.namespace, pod.name, pod.uid, node)
            except KedgeError as error:
                self._unassume(pod)
                if isinstance(error, NotFound):
                    self._waiting.forget(pod.key)
                    return
                if not isinstance(error, Conflict):
                    message = f'binding rejected: running Bind plugin "DefaultBinder": {error}'
                    self._recorder.record(_about(pod), events.WARNING, "FailedScheduling", message)
                self._retry(pod)
                return
        message = f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
        self._recorder.record(_about(pod), events.NORMAL, "Scheduled", message)

    def _unassume(self, pod: Pod) -> None:
        if self._assumed.pop(pod.key, None) is None:
            return
        present = self._informer.pods.get(*pod.key)
        if present is None or not present.node:
            self._snapshot.remove_pod(pod.key)

    def _retry(self, pod: Pod) -> None:
        """Tries again after the backoff, if the pod still wants a node."""
        present = self._informer.pods.get(*pod.key)
        if present is not None and self._wanted(present):
            self._waiting.park(present, time.monotonic())
            self._stir()

    async def _explain(self, pod: Pod, message: str) -> None:
        """Writes PodScheduled=False, unless it says so already."""
        async with self._slots:
            stored = self._client.get(ObjectKey("", "pods", *pod.key))
            if stored is None or stored["metadata"]["uid"] != pod.uid:
                return
            known = (stored.get("status") or {}).get("conditions")
            present = conditions.find(known, "PodScheduled")
            if present is not None and present.get("message") == message:
                return
            updated = conditions.with_condition(
                known,
                "PodScheduled",
                "False",
                reason="Unschedulable",
                message=message,
                now=time.time(),
            )
            version = stored["metadata"]["resourceVersion"]
            key = ObjectKey("", "pods", *pod.key)
            try:
                await self._client.patch_status(key, {"conditions": updated}, version=version)
            except KedgeError as error:
                _log.debug("PodScheduled could not be written key=%s error=%s", key, error)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None or new.finished:
            gone = new or old
            if gone is not None:
                self._gone(gone)
        elif new.node:
            self._bound(new)
        elif self._wanted(new):
            self._wants(old, new)
        else:
            self._waiting.forget(new.key)

    def _gone(self, pod: Pod) -> None:
        self._waiting.forget(pod.key)
        self._assumed.pop(pod.key, None)
        self._snapshot.remove_pod(pod.key)
        if pod.node:
            self._stir()

    def _bound(self, pod: Pod) -> None:
        self._waiting.forget(pod.key)
        self._assumed.pop(pod.key, None)
        self._snapshot.put_pod(pod, pod.node)

    def _wants(self, old: Pod | None, new: Pod) -> None:
        if self._assumed.get(new.key) == new.uid:
            return
        if old is not None and old.pending == new.pending and old.labels == new.labels:
            self._waiting.refresh(new)
        else:
            self._waiting.add(new)
        self._wake.set()

    def _wanted(self, pod: Pod) -> bool:
        spec = pod.pending
        return (
            spec is not None
            and not pod.deleted
            and not spec.scheduling_gates
            and (spec.scheduler_name or NAME) == self._name
        )

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self._snapshot.remove_node(old.name)
                self._stir()
            return
        self._snapshot.put_node(new)
        if old is None or _helps(old, new):
            self._stir()

    def _storage_changed(self, _old: object, _new: object) -> None:
        self._stir()

    def _stir(self) -> None:
        if len(self._waiting):
            self._waiting.stir(time.monotonic())
            self._wake.set()


def _helps(old: Node, new: Node) -> bool:
    """Whether a node's change could make a pod fit that did not: not its heartbeats."""
    return (
        old.labels != new.labels
        or old.taints != new.taints
        or old.unschedulable != new.unschedulable
        or old.allocatable != new.allocatable
    )


def unread(spec: PodSpec) -> list[str]:
    """What a pod says of its place that nobody here reads."""
    affinity, found = spec.affinity, []
    if affinity is not None and affinity.pod_affinity is not None:
        found.append("affinity.podAffinity")
    if affinity is not None and affinity.pod_anti_affinity is not None:
        found.append("affinity.podAntiAffinity")
    for one in spec.topology_spread_constraints or ():
        if one.node_affinity_policy == "Ignore":
            found.append("topologySpreadConstraints.nodeAffinityPolicy")
        if one.node_taints_policy == "Honor":
            found.append("topologySpreadConstraints.nodeTaintsPolicy")
    return list(dict.fromkeys(found))


def _about(pod: Pod) -> events.Reference:
    return events.Reference("Pod", "v1", pod.namespace, pod.name, pod.uid)
