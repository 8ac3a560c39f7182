# SPDX-License-Identifier: Apache-2.0
"""The Job controller: looks, has ``plan`` decide, acts, and has ``tracking`` count."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.jobs.backoff import Backoff
from kedge.cluster.controllers.jobs.claims import claim, untrack
from kedge.cluster.controllers.jobs.model import Job, is_tracked
from kedge.cluster.controllers.jobs.plan import plan
from kedge.cluster.controllers.jobs.pods import pod_for
from kedge.cluster.controllers.jobs.tracking import Done, settle, track
from kedge.cluster.machinery import events
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.cluster.machinery.selectors import labels_match
from kedge.errors import KedgeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kedge.cluster.controllers.jobs.plan import Plan
    from kedge.cluster.controllers.jobs.tracking import Said, Status
    from kedge.cluster.machinery.batch import Job as Record
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Pod
    from kedge.cluster.machinery.wire import Object

T = TypeVar("T")

BATCH_SECONDS = 0.1
"""Pods of a Job that change together are looked at together."""
WRITES = 64
"""Writes under way at once."""


class Jobs:
    """The Job controller.

    Args:
        client: writes.
        informer: reads.
        recorder: tells people.
        clock: epoch seconds.
    """

    def __init__(
        self,
        client: Client,
        informer: Informer,
        recorder: Recorder,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._informer = informer
        self._recorder = recorder
        self._now = clock
        self._backoffs: dict[Key, Backoff] = {}
        self._work: Reconciler[Key] = Reconciler("jobs", self.reconcile, informer)
        self._orphans: Reconciler[Key] = Reconciler("pods of no job", self._orphan, informer)
        informer.jobs.watch(self._job_changed)
        informer.pods.watch(self._pod_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work.run())
            group.create_task(self._orphans.run())

    # --- what happened

    def _job_changed(self, old: Record | None, new: Record | None) -> None:
        record = new or old
        if record is None:
            return
        self._work.add(record.key)
        if new is None or new.finished:
            for pod in self._informer.pods.owned_by(record.uid):
                if is_tracked(pod):
                    self._orphans.add(pod.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            if pod is not None and pod.owner is not None and pod.owner.kind == "Job":
                self._work.add_after((pod.namespace, pod.owner.name), BATCH_SECONDS)
        if new is None:
            return
        if is_tracked(new) and not self._is_awaited(new):
            self._orphans.add(new.key)
        if new.owner is None and (old is None or old.owner or old.labels != new.labels):
            for record in self._informer.jobs.within(new.namespace):
                if not record.finished and labels_match(record.selector, new.labels):
                    self._work.add_after(record.key, BATCH_SECONDS)

    def _is_awaited(self, pod: Pod) -> bool:
        """Whether somebody will take the finalizer away: a Job at work, ours or another's."""
        if pod.owner is None:
            return False
        if pod.owner.kind != "Job":
            return True
        record = self._informer.jobs.get(pod.namespace, pod.owner.name)
        if record is None or record.uid != pod.owner.uid:
            return False
        return record.managed_by_others or not record.finished

    async def _orphan(self, key: Key) -> None:
        """Lets a pod go that no Job will count any more."""
        pod = self._informer.pods.get(*key)
        if pod is not None and is_tracked(pod) and not self._is_awaited(pod):
            await untrack(self._client, pod)

    # --- one Job

    async def reconcile(self, key: Key) -> float | None:
        """Brings one Job nearer to its end; seconds until it wants to be looked at again."""
        record = self._informer.jobs.get(*key)
        if record is None or record.finished:
            self._backoffs.pop(key, None)
            return None
        stored = self._client.get(ObjectKey("batch", "jobs", *key))
        if record.managed_by_others or stored is None or stored["metadata"]["uid"] != record.uid:
            return None
        job = Job.of(stored)
        if job.is_finished:
            return None
        pods = await claim(self._client, self._informer, record)
        made = plan(job, pods, self._backoffs.get(key, Backoff()), self._now())
        done, failures = await self._act(job, record, stored, made)
        turn = track(job, pods, made, done, self._now())
        version = stored["metadata"]["resourceVersion"]
        if turn.status != job.status:
            version = await self._write(record, version, job.status, turn.status)
            self._backoffs[key] = made.backoff
        stripped, more = await self._each(turn.strip, self._untrack)
        failures += more
        status, said = settle(job, turn, {pod.uid for pod in stripped}, self._now())
        if status != turn.status:
            await self._write(record, version, turn.status, status)
        self._tell(record, (*turn.said, *said))
        if failures:
            raise failures[0]
        return made.again

    async def _act(
        self, job: Job, record: Record, stored: Object, made: Plan
    ) -> tuple[Done, list[KedgeError]]:
        async def stop(pod: Pod) -> None:
            await self._delete(record, pod)

        async def drop(pod: Pod) -> None:
            await untrack(self._client, pod)
            await self._delete(record, pod)

        stopped, failures = await self._each(made.stop, stop)
        dropped, more = await self._each(made.drop, drop)
        created, others = await self._create(job, record, stored, made)
        return Done(tuple(stopped), tuple(dropped), created), [*failures, *more, *others]

    async def _create(
        self, job: Job, record: Record, stored: Object, made: Plan
    ) -> tuple[int, list[KedgeError]]:
        """Creates pods in batches that double, so that a failing template costs few attempts."""
        template = stored["spec"]["template"]

        async def create(index: int) -> None:
            body = pod_for(job, record, template, index, made.last.get(index))
            await self._create_one(record, body)

        left, batch, created = list(made.create), 1, 0
        while left:
            now, left = left[:batch], left[batch:]
            succeeded, failures = await self._each(now, create)
            created += len(succeeded)
            if failures:
                return created, failures
            batch *= 2
        return created, []

    async def _create_one(self, record: Record, body: Object) -> None:
        try:
            created = await self._client.create(ObjectKey("", "pods", record.namespace, ""), body)
        except KedgeError as error:
            self._tell(record, [(events.WARNING, "FailedCreate", f"Error creating: {error}")])
            raise
        text = f"Created pod: {created['metadata']['name']}"
        self._tell(record, [(events.NORMAL, "SuccessfulCreate", text)])

    async def _delete(self, record: Record, pod: Pod) -> None:
        try:
            await self._client.delete(ObjectKey("", "pods", *pod.key), uid=pod.uid)
        except KedgeError as error:
            self._tell(record, [(events.WARNING, "FailedDelete", f"Error deleting: {error}")])
            raise
        self._tell(record, [(events.NORMAL, "SuccessfulDelete", f"Deleted pod: {pod.name}")])

    async def _untrack(self, pod: Pod) -> None:
        await untrack(self._client, pod)

    @staticmethod
    async def _each(
        items: Sequence[T], act: Callable[[T], Awaitable[None]]
    ) -> tuple[list[T], list[KedgeError]]:
        """Does something with each of them, some at a time; those that it was done with, and errors."""
        slots = asyncio.Semaphore(WRITES)
        done: list[T] = []
        failures: list[KedgeError] = []

        async def one(item: T) -> None:
            async with slots:
                try:
                    await act(item)
                except KedgeError as error:
                    failures.append(error)
                else:
                    done.append(item)

        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))
        return done, failures

    async def _write(self, record: Record, version: str, old: Status, new: Status) -> str:
        """Writes a status, unless somebody else has; the new version."""
        patch: dict[str, Any] = changed_fields(old, new)
        field = "uncountedTerminatedPods"
        if patch.get(field) is not None and old.get(field):
            patch[field] = changed_fields(old[field], new[field])
        key = ObjectKey("batch", "jobs", *record.key)
        stored = await self._client.patch_status(key, patch, version=version, uid=record.uid)
        written: str = stored["metadata"]["resourceVersion"]
        return written

    def _tell(self, record: Record, said: Sequence[Said]) -> None:
        about = events.Reference("Job", "batch/v1", *record.key, record.uid)
        for kind, reason, message in said:
            self._recorder.record(about, kind, reason, message)
