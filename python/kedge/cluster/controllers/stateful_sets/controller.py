# SPDX-License-Identifier: Apache-2.0
"""The StatefulSet controller."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from kedge.api import kinds
from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.stateful_sets.members import Members, Whose
from kedge.cluster.controllers.stateful_sets.model import StatefulSet
from kedge.cluster.controllers.stateful_sets.plan import (
    Create,
    Delete,
    Mend,
    Planner,
    Provide,
    Revisions,
)
from kedge.cluster.controllers.stateful_sets.status import changes, status_of
from kedge.cluster.machinery.batches import slowly
from kedge.cluster.machinery.owners import adopt, controller_reference, release
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.cluster.machinery.revisions import POD_LABEL, History, forgettable
from kedge.cluster.machinery.selectors import is_empty, labels_match
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kedge.cluster.controllers.stateful_sets.plan import Step
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Pod, Workload
    from kedge.cluster.machinery.revisions import Revision, Settled
    from kedge.cluster.machinery.storage import Claim

KIND = kinds.of("apps", "statefulsets")
HASH = "controller.kubernetes.io/hash"
"""The label of revisions."""


class StatefulSets:
    """The StatefulSet controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
    """

    def __init__(self, client: Client, informer: Informer, recorder: Recorder) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._history = History(client, informer.store, KIND, HASH)
        self._work: Reconciler[Key] = Reconciler("statefulsets", self._reconcile, informer)
        informer.stateful_sets.watch(self._stateful_set_changed)
        informer.pods.watch(self._pod_changed)
        informer.claims.watch(self._claim_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _stateful_set_changed(self, old: Workload | None, new: Workload | None) -> None:
        record = new or old
        if record is not None:
            self._work.add(record.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            if pod.owner is not None:
                if pod.owner.kind == "StatefulSet":
                    self._work.add((pod.namespace, pod.owner.name))
            elif new is not None and len(self._informer.stateful_sets):
                parent = pod.name.rpartition("-")[0]
                record = self._informer.stateful_sets.get(pod.namespace, parent)
                if record is not None and labels_match(record.selector, pod.labels):
                    self._work.add(record.key)

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        """A claim that has gone may be what a pod waits for."""
        if old is None or new is not None:
            return
        for record in self._informer.stateful_sets.within(old.namespace):
            if f"-{record.name}-" in old.name:
                self._work.add(record.key)

    async def _reconcile(self, key: Key) -> float | None:
        record = self._informer.stateful_sets.get(*key)
        stored = self._client.get(ObjectKey(KIND.group, KIND.resource, *key))
        if record is None or stored is None or stored["metadata"]["uid"] != record.uid:
            return None
        if is_empty(record.selector):
            return None
        whose = Whose(record, stored, StatefulSet.of(stored))
        await self._claim(whose)
        status = stored.get("status") or {}
        if record.deleted:
            update = status.get("updateRevision", "")
            revisions = Revisions(status.get("currentRevision", ""), update)
            await self._write_status(whose, revisions, status.get("collisionCount") or 0)
            return None
        settled = await self._history.settle(record, stored)
        named = {each.name: each for each in settled.all}
        current = named.get(status.get("currentRevision", ""), settled.update)
        revisions = Revisions(current.name, settled.update.name)
        failure: KedgeError | None = None
        try:
            await self._act(whose, revisions, named)
        except KedgeError as error:
            failure = error
        await self._informer.caught_up()
        await self._write_status(whose, revisions, settled.collisions)
        await self._forget(whose, settled, current)
        if failure is not None:
            raise failure
        return self._next_available(record)

    async def _claim(self, whose: Whose) -> None:
        """Takes pods with the right name and labels, and lets go those without."""
        record, model = whose.record, whose.model
        if record.deleted:
            return
        pods = self._informer.pods
        reference = controller_reference(KIND.api_version, KIND.kind, record)
        for pod in pods.strays(record.namespace):
            if not pod.deleted and self._is_member(record, model, pod):
                await adopt(self._client, ObjectKey("", "pods", *pod.key), pod.uid, reference)
        for pod in pods.owned_by(record.uid):
            if not pod.deleted and not self._is_member(record, model, pod):
                await release(self._client, ObjectKey("", "pods", *pod.key), pod.uid, record.uid)
        await self._informer.caught_up()

    @staticmethod
    def _is_member(record: Workload, model: StatefulSet, pod: Pod) -> bool:
        return model.ordinal_of(pod) is not None and labels_match(record.selector, pod.labels)

    async def _act(self, whose: Whose, revisions: Revisions, named: dict[str, Revision]) -> None:
        members = Members(whose, self._client, self._informer, self._recorder)
        known = []
        for pod in self._informer.pods.owned_by(whose.record.uid):
            ordinal = whose.model.ordinal_of(pod)
            if ordinal is not None:
                known.append(members.member(pod, ordinal))
        planner = Planner(whose.model, revisions, time.time(), members.is_stale)
        for phase in planner.plan(known):
            calls = [_call(members, step, named) for step in phase]
            if whose.model.is_ordered:
                for call in calls:
                    await call()
            else:
                await slowly(calls)

    async def _write_status(self, whose: Whose, revisions: Revisions, collisions: int) -> None:
        record = whose.record
        pods = self._informer.pods.owned_by(record.uid)
        status = status_of(whose.model, revisions, pods, time.time())
        status["observedGeneration"] = record.generation
        status["collisionCount"] = collisions
        patch = changes(whose.stored.get("status") or {}, status)
        if patch:
            key = ObjectKey(KIND.group, KIND.resource, *record.key)
            await self._client.patch_status(key, patch, uid=record.uid)

    async def _forget(self, whose: Whose, settled: Settled, current: Revision) -> None:
        limit = whose.stored["spec"].get("revisionHistoryLimit", 10)
        old = [each for each in settled.all if each.name not in (current.name, settled.update.name)]
        if len(old) <= limit:
            return
        pods = self._informer.pods.owned_by(whose.record.uid)
        live = {pod.labels.get(POD_LABEL, "") for pod in pods}
        await self._history.forget(whose.record, forgettable(old, live, limit, live_count=False))

    def _next_available(self, record: Workload) -> float | None:
        now = time.time()
        waits = [
            pod.ready_since + record.min_ready_seconds - now
            for pod in self._informer.pods.owned_by(record.uid)
            if pod.ready and not pod.available(record.min_ready_seconds, now)
        ]
        return max(min(waits), 0.001) if waits else None


def _call(
    members: Members, step: Step, named: dict[str, Revision]
) -> Callable[[], Coroutine[None, None, None]]:
    match step:
        case Create(ordinal, revision):
            return partial(members.create, ordinal, named[revision])
        case Delete(pod):
            return partial(members.delete, pod)
        case Provide(pod):
            return partial(members.provide, pod)
        case Mend(pod):
            return partial(members.mend, pod)
