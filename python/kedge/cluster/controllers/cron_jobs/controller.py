# SPDX-License-Identifier: Apache-2.0
"""The CronJob controller."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kedge.api.keys import ObjectKey
from kedge.cluster.controllers.cron_jobs.plan import job_for, plan, set_active, surplus
from kedge.cluster.machinery import events
from kedge.cluster.machinery.client import changed_fields
from kedge.cluster.machinery.reconciler import Reconciler
from kedge.cluster.machinery.times import text_of
from kedge.errors import AlreadyExists, KedgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kedge.cluster.controllers.cron_jobs.plan import Plan, Said
    from kedge.cluster.machinery.batch import Job
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.events import Recorder
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key, Workload
    from kedge.cluster.machinery.wire import Object


class CronJobs:
    """The CronJob controller.

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
        self._work: Reconciler[Key] = Reconciler("cronjobs", self.reconcile, informer)
        informer.cron_jobs.watch(self._cron_job_changed)
        informer.jobs.watch(self._job_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _cron_job_changed(self, _old: Workload | None, new: Workload | None) -> None:
        if new is not None:
            self._work.add(new.key)

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        for job in (old, new):
            if job is not None and job.owner is not None and job.owner.kind == "CronJob":
                self._work.add((job.namespace, job.owner.name))

    async def reconcile(self, key: Key) -> float | None:
        """Does what is due for one CronJob; seconds until something is due again."""
        record = self._informer.cron_jobs.get(*key)
        stored = self._client.get(ObjectKey("batch", "cronjobs", *key))
        if record is None or stored is None or stored["metadata"]["uid"] != record.uid:
            return None
        jobs = self._informer.jobs.owned_by(record.uid)
        made = plan(stored, jobs, self._exists, self._now())
        self._tell(record, made.said)
        failure: KedgeError | None = None
        try:
            for job in surplus(stored, jobs):
                if not job.deleted:
                    await self._delete(record, made, job.name, job.uid)
            if made.start is not None:
                await self._start(record, stored, made, made.start)
        except KedgeError as error:
            failure = error
        patch: dict[str, Any] = changed_fields(stored.get("status") or {}, made.status)
        if patch:
            version = stored["metadata"]["resourceVersion"]
            name = ObjectKey("batch", "cronjobs", *key)
            await self._client.patch_status(name, patch, version=version, uid=record.uid)
        if failure is not None:
            raise failure
        return made.again

    def _exists(self, reference: Object) -> bool:
        key = ObjectKey("batch", "jobs", reference["namespace"], reference["name"])
        return self._client.get(key) is not None

    async def _start(self, record: Workload, stored: Object, made: Plan, start: int) -> None:
        for each in made.replace:
            await self._delete(record, made, each["name"], each["uid"])
        job = await self._create(record, job_for(stored, start))
        if job is None:
            return
        metadata = job["metadata"]
        reference = {
            "kind": "Job",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "apiVersion": "batch/v1",
            "resourceVersion": metadata["resourceVersion"],
        }
        set_active(made.status, [*(made.status.get("active") or ()), reference])
        made.status["lastScheduleTime"] = text_of(start)

    async def _create(self, record: Workload, body: Object) -> Object | None:
        """Makes a Job, or finds the one that was made before; None when it is somebody else's."""
        key = ObjectKey("batch", "jobs", record.namespace, body["metadata"]["name"])
        try:
            job = await self._client.create(key, body)
        except AlreadyExists:
            found = self._client.get(key)
            return found if found is not None and _is_of(found, record) else None
        except KedgeError as error:
            text = f"Error creating job: {error}"
            self._tell(record, [(events.WARNING, "FailedCreate", text)])
            raise
        self._tell(record, [(events.NORMAL, "SuccessfulCreate", f"Created job {key.name}")])
        return job

    async def _delete(self, record: Workload, made: Plan, name: str, uid: str) -> None:
        key = ObjectKey("batch", "jobs", record.namespace, name)
        try:
            await self._client.delete(key, uid=uid)
        except KedgeError as error:
            self._tell(record, [(events.WARNING, "FailedDelete", f"Deleted job: {error}")])
            raise
        left = [each for each in made.status.get("active") or () if each.get("uid") != uid]
        set_active(made.status, left)
        self._tell(record, [(events.NORMAL, "SuccessfulDelete", f"Deleted job {name}")])

    def _tell(self, record: Workload, said: Sequence[Said]) -> None:
        about = events.Reference("CronJob", "batch/v1", *record.key, record.uid)
        for kind, reason, message in said:
            self._recorder.record(about, kind, reason, message)


def _is_of(job: Object, record: Workload) -> bool:
    references = job["metadata"].get("ownerReferences") or ()
    return any(each.get("controller") and each["uid"] == record.uid for each in references)
