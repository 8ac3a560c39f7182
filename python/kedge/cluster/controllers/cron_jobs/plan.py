# SPDX-License-Identifier: Apache-2.0
"""What becomes of the Jobs of a CronJob, and whether another is made now. Pure.

A Job is named after the minute it is made for, so that a controller that died after making one finds
it when it tries again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kedge.api import cron
from kedge.cluster.controllers.cron_jobs.schedule import (
    Missed,
    NeverError,
    recent,
    seconds_to_next,
)
from kedge.cluster.machinery.events import NORMAL, WARNING
from kedge.cluster.machinery.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kedge.cluster.machinery.batch import Job
    from kedge.cluster.machinery.wire import Object

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
Said = tuple[str, str, str]
"""Type, reason and message of an Event."""


@dataclass(slots=True)
class Plan:
    """What to do.

    Attributes:
        status: the status, but for a Job that is still to be made.
        replace: active Jobs to delete before another is made, as the status refers to them.
        start: the time of the Job to make; None for none.
        again: seconds until the CronJob wants to be looked at.
        said: Events.
    """

    status: Object
    replace: tuple[Object, ...] = ()
    start: int | None = None
    again: float | None = None
    said: list[Said] = field(default_factory=list)


def surplus(stored: Object, jobs: Sequence[Job]) -> list[Job]:
    """Finished Jobs over the limits of the history, the oldest first."""
    spec = stored["spec"]
    found: list[Job] = []
    for how, name in (
        ("Complete", "successfulJobsHistoryLimit"),
        ("Failed", "failedJobsHistoryLimit"),
    ):
        limit = spec.get(name)
        finished = sorted(
            (job for job in jobs if job.finished == how),
            key=lambda job: (job.started_at == 0, job.started_at, job.name),
        )
        if limit is not None:
            found += finished[: max(len(finished) - limit, 0)]
    return found


def plan(stored: Object, jobs: Sequence[Job], exists: Callable[[Object], bool], now: float) -> Plan:
    """Decides.

    Args:
        stored: the CronJob.
        jobs: the Jobs that it controls.
        exists: whether a Job that its status refers to is there.
        now: epoch seconds.
    """
    made = Plan(dict(stored.get("status") or {}))
    _look(made, jobs, exists)
    if "deletionTimestamp" in stored["metadata"]:
        return made
    spec = stored["spec"]
    schedule = _schedule(spec, made)
    if schedule is None:
        return made
    taken = made.status.get("lastScheduleTime") or stored["metadata"]["creationTimestamp"]
    earliest = seconds_of(taken)
    try:
        due = recent(schedule, earliest, now, spec.get("startingDeadlineSeconds"))
    except NeverError as error:
        text = f"invalid schedule: {spec['schedule']} : {error}"
        made.said.append((WARNING, "InvalidSchedule", text))
        return made
    if due.start is not None:
        if due.missed is Missed.MANY:
            text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            made.said.append((WARNING, "TooManyMissedTimes", text))
        _start(stored, made, due.start, now)
    earliest = made.start if made.start is not None else earliest
    made.again = seconds_to_next(schedule, earliest, now)
    return made


def _look(made: Plan, jobs: Sequence[Job], exists: Callable[[Object], bool]) -> None:
    """Follows what has become of the Jobs."""
    active = list(made.status.get("active") or ())
    known = {each.get("uid") for each in active}
    for job in jobs:
        if job.uid not in known and not job.finished:
            text = f"Saw a job that the controller did not create or forgot: {job.name}"
            made.said.append((WARNING, "UnexpectedJob", text))
        elif job.uid in known and job.finished:
            active = [each for each in active if each.get("uid") != job.uid]
            text = f"Saw completed job: {job.name}, condition: {job.finished}"
            made.said.append((NORMAL, "SawCompletedJob", text))
        if job.finished == "Complete" and job.completed:
            last = seconds_of(made.status.get("lastSuccessfulTime"))
            if seconds_of(job.completed) > last:
                made.status["lastSuccessfulTime"] = job.completed
    here = {job.uid for job in jobs}
    for each in list(active):
        if each.get("uid") not in here and not exists(each):
            active.remove(each)
            text = f"Active job went missing: {each.get('name')}"
            made.said.append((NORMAL, "MissingJob", text))
    set_active(made.status, active)


def set_active(status: Object, active: Sequence[Object]) -> None:
    """The Jobs that run; none are not written."""
    if active:
        status["active"] = list(active)
    else:
        status.pop("active", None)


def _schedule(spec: Object, made: Plan) -> cron.Schedule | cron.Interval | None:
    """The schedule, if it is one and is not suspended."""
    zone, text = spec.get("timeZone"), spec.get("schedule", "")
    if zone is not None:
        try:
            cron.location(zone)
        except cron.ScheduleError as error:
            said = f'invalid timeZone: "{zone}": {error}'
            made.said.append((WARNING, "UnknownTimeZone", said))
            return None
    if spec.get("suspend"):
        return None
    if "TZ" in text:
        said = (
            f'CRON_TZ or TZ used in schedule "{text}" is not officially supported, see '
            "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
        )
        made.said.append((WARNING, "UnsupportedSchedule", said))
    try:
        return cron.parse(text, zone or "")
    except cron.ScheduleError as error:
        said = f'unparseable schedule: "{text}" : {error}'
        made.said.append((WARNING, "UnparseableSchedule", said))
        return None


def _start(stored: Object, made: Plan, start: int, now: float) -> None:
    """Whether the Job of a start that is due is made."""
    spec, status = stored["spec"], made.status
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None and start + deadline < now:
        when = datetime.fromtimestamp(start, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
        text = f"Missed scheduled time to start a job: {when}"
        made.said.append((WARNING, "MissSchedule", text))
        return
    active = status.get("active") or ()
    name = job_name(stored["metadata"]["name"], start)
    is_taken = seconds_of(status.get("lastScheduleTime")) == start
    if is_taken or any(each.get("name") == name for each in active):
        return
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy == "Forbid" and active:
        text = (
            "Not starting job because prior execution is running and concurrency policy is Forbid"
        )
        made.said.append((NORMAL, "JobAlreadyActive", text))
        return
    if policy == "Replace":
        made.replace = tuple(active)
    made.start = start


def job_name(name: str, start: int) -> str:
    """The name of the Job for a start."""
    return f"{name}-{start // 60}"


def job_for(stored: Object, start: int) -> Object:
    """The Job for a start."""
    metadata, spec = stored["metadata"], stored["spec"]
    template = spec["jobTemplate"]
    about = template.get("metadata") or {}
    zone = cron.location(spec.get("timeZone") or "")
    at = datetime.fromtimestamp(start, zone).isoformat().replace("+00:00", "Z")
    owner: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(metadata["name"], start),
            "namespace": metadata["namespace"],
            "labels": dict(about.get("labels") or {}),
            "annotations": {**(about.get("annotations") or {}), SCHEDULED: at},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }
