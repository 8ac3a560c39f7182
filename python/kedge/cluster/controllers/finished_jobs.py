# SPDX-License-Identifier: Apache-2.0
"""Removes Jobs ``ttlSecondsAfterFinished`` after they have finished, and then their pods before them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kedge.api.keys import ObjectKey
from kedge.cluster.machinery.client import FOREGROUND
from kedge.cluster.machinery.reconciler import Reconciler

if TYPE_CHECKING:
    from kedge.cluster.machinery.batch import Job
    from kedge.cluster.machinery.client import Client
    from kedge.cluster.machinery.informer import Informer
    from kedge.cluster.machinery.records import Key


def seconds_left(job: Job, now: float) -> float | None:
    """Seconds until a Job is to be removed, zero when it is now; None when it stays. Pure."""
    if job.ttl is None or not job.finished or job.deleted:
        return None
    return max(job.finished_at + job.ttl - now, 0.0)


class FinishedJobs:
    """The controller of Jobs' time to live.

    Args:
        client: writes.
        informer: reads.
    """

    def __init__(self, client: Client, informer: Informer) -> None:
        self._client = client
        self._informer = informer
        self._work: Reconciler[Key] = Reconciler("finished jobs", self._reconcile, informer)
        informer.jobs.watch(self._job_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._work.run()

    def _job_changed(self, _old: Job | None, new: Job | None) -> None:
        if new is not None and seconds_left(new, 0.0) is not None:
            self._work.add(new.key)

    async def _reconcile(self, key: Key) -> float | None:
        job = self._informer.jobs.get(*key)
        left = seconds_left(job, time.time()) if job is not None else None
        if job is None or left is None or left > 0:
            return left
        jobs = ObjectKey("batch", "jobs", *key)
        await self._client.delete(jobs, uid=job.uid, propagation=FOREGROUND)
        return None
