# SPDX-License-Identifier: Apache-2.0
"""Counts every pod of a Job once, whatever happens in between. Pure.

A pod carries a finalizer until it is counted, so that none vanishes unseen. Counting takes two
writes: first the uids of pods that ended go into ``uncountedTerminatedPods``, then their finalizers
are taken away, then the uids become numbers. Whoever dies in between, the next turn sees how far it
went: a uid whose pod has the finalizer is not counted yet, one whose pod has not (or is gone) is
counted by moving it. Indexes need no uids: an index that has succeeded does so once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kedge.cluster.controllers.jobs import policies
from kedge.cluster.controllers.jobs.model import index_of, is_terminating, is_tracked
from kedge.cluster.machinery import conditions
from kedge.cluster.machinery.events import NORMAL, WARNING
from kedge.cluster.machinery.times import seconds_of, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from kedge.cluster.controllers.jobs.model import Job
    from kedge.cluster.controllers.jobs.plan import End, Plan
    from kedge.cluster.machinery.records import Pod

UNCOUNTED = 500
"""Pods counted in one turn, so that a status stays small."""
Status = dict[str, Any]
Said = tuple[str, str, str]
"""Type, reason and message of an Event."""


@dataclass(frozen=True, slots=True)
class Done:
    """What of a plan was carried out.

    Attributes:
        stopped: pods deleted because the Job ends.
        dropped: pods deleted because there were too many.
        created: how many were created.
    """

    stopped: tuple[Pod, ...] = ()
    dropped: tuple[Pod, ...] = ()
    created: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What to write before finalizers are taken away.

    Attributes:
        status: the whole status.
        strip: pods to take the finalizer from, once the status is written.
        end: how the Job ends; None when it does not, or cannot say so yet.
        said: Events.
    """

    status: Status
    strip: tuple[Pod, ...]
    end: End | None
    said: tuple[Said, ...] = field(default=())


def track(job: Job, pods: Sequence[Pod], plan: Plan, done: Done, now: float) -> Turn:
    """The status to write, and which pods have nothing to wait for after that.

    Args:
        job: the Job, with the status that is stored.
        pods: its pods as they were when the plan was made.
        plan: what was decided.
        done: what was carried out of it.
        now: epoch seconds.
    """
    status = dict(job.status)
    end = plan.end if len(done.stopped) == len(plan.stop) else None
    _numbers(status, pods, done)
    if not job.suspended:
        status.setdefault("startTime", text_of(now))
    said: list[Said] = []
    if plan.managed and plan.end is None:
        said = _suspension(job, status, now)
    tracked = {pod.uid for pod in pods if is_tracked(pod)}
    waiting = _Uncounted(job.uncounted_succeeded, job.uncounted_failed)
    waiting.move(status, tracked)
    dropped = {pod.uid for pod in done.dropped}
    left = [pod for pod in pods if is_tracked(pod) and pod.uid not in dropped]
    strip, limited = _count(job, left, plan, end, waiting)
    status["uncountedTerminatedPods"] = waiting.written()
    if job.indexed:
        status["succeeded"] = len(plan.succeeded)
        _put(status, "completedIndexes", str(plan.succeeded))
        if plan.failed is not None:
            status["failedIndexes"] = str(plan.failed)
        else:
            status.pop("failedIndexes", None)
    if end is not None:
        name = "SuccessCriteriaMet" if end.succeeded else "FailureTarget"
        if job.condition(name) is None:
            status["conditions"] = _with(
                status, name, "True", reason=end.reason, message=end.message, now=now
            )
    _tidy(status)
    return Turn(status, tuple(strip), None if limited else end, tuple(said))


def settle(
    job: Job, turn: Turn, stripped: Collection[str], now: float
) -> tuple[Status, tuple[Said, ...]]:
    """The status once finalizers are gone, and what to say: the Job has finished if all is counted.

    Args:
        job: the Job.
        turn: what was written before.
        stripped: uids of the pods that have lost their finalizer.
        now: epoch seconds.
    """
    status = dict(turn.status)
    before = status.get("uncountedTerminatedPods") or {}
    waiting = _Uncounted(list(before.get("succeeded") or ()), list(before.get("failed") or ()))
    waiting.move(status, {*waiting.succeeded, *waiting.failed} - set(stripped))
    status["uncountedTerminatedPods"] = waiting.written()
    said: tuple[Said, ...] = ()
    if turn.end is not None and not waiting and not status.get("terminating"):
        said = _finish(job, status, turn.end, now)
    _tidy(status)
    return status, said


class _Uncounted:
    """uids of pods that ended and are not in the counts yet."""

    def __init__(self, succeeded: list[str], failed: list[str]) -> None:
        self.succeeded, self.failed = succeeded, failed
        self._known_failed = set(failed)
        self._known_succeeded = set(succeeded)

    def __len__(self) -> int:
        return len(self.succeeded) + len(self.failed)

    def move(self, status: Status, tracked: Collection[str]) -> None:
        """Counts those whose pods are not to be waited for any more."""
        for name in ("succeeded", "failed"):
            uids: list[str] = getattr(self, name)
            kept = [uid for uid in uids if uid in tracked]
            status[name] = status.get(name, 0) + len(uids) - len(kept)
            setattr(self, name, kept)

    def has_failed(self, uid: str) -> bool:
        """Whether that pod is among the failed ones."""
        return uid in self._known_failed

    def add_failed(self, uid: str) -> None:
        """Adds a pod that failed, once."""
        if uid not in self._known_failed:
            self._known_failed.add(uid)
            self.failed.append(uid)

    def add_succeeded(self, uid: str) -> None:
        """Adds a pod that succeeded, once."""
        if uid not in self._known_succeeded:
            self._known_succeeded.add(uid)
            self.succeeded.append(uid)

    def written(self) -> dict[str, list[str]]:
        """As the status has it."""
        lists = {"failed": self.failed, "succeeded": self.succeeded}
        return {name: uids for name, uids in lists.items() if uids}


def _count(
    job: Job,
    pods: Iterable[Pod],
    plan: Plan,
    end: End | None,
    waiting: _Uncounted,
) -> tuple[list[Pod], bool]:
    """Notes the pods that ended; those to take the finalizer from, and whether more are left."""
    strip: list[Pod] = []
    new_indexes, known = 0, job.completed_indexes
    ordered = sorted(pods, key=index_of) if job.indexed else pods
    for pod in ordered:
        if not _is_over(job, pod, plan, end):
            continue
        strip.append(pod)
        if pod.phase == "Succeeded" and not waiting.has_failed(pod.uid):
            if not job.indexed:
                waiting.add_succeeded(pod.uid)
            elif job.has_index(pod) and index_of(pod) not in known:
                new_indexes += 1
        elif _is_failure(job, pod, end) and policies.judge(job, pod).counts:
            waiting.add_failed(pod.uid)
        if new_indexes + len(waiting) >= UNCOUNTED:
            return strip, True
    return strip, False


def _is_failure(job: Job, pod: Pod, end: End | None) -> bool:
    """Whether a pod is a failure; when the Job fails, whatever has not succeeded is."""
    has_failed = job.has_failed(pod) or (end is not None and not end.succeeded)
    return has_failed and job.has_index(pod)


def _is_over(job: Job, pod: Pod, plan: Plan, end: End | None) -> bool:
    """Whether nothing more is to come from a pod that the Job has to know."""
    if job.deleted or end is not None or pod.phase == "Succeeded":
        return True
    if not job.has_failed(pod):
        return False
    last = plan.last.get(index_of(pod))
    return last is None or last.uid != pod.uid


def _numbers(status: Status, pods: Iterable[Pod], done: Done) -> None:
    gone = {pod.uid for pod in (*done.stopped, *done.dropped)}
    left = [pod for pod in pods if pod.active and pod.uid not in gone]
    status["active"] = len(left) + done.created
    status["ready"] = sum(pod.ready for pod in left)
    status["terminating"] = sum(is_terminating(pod) for pod in pods) + len(gone)


def _suspension(job: Job, status: Status, now: float) -> list[Said]:
    """Says whether the Job is suspended, when that has changed."""
    known = conditions.find(status.get("conditions"), "Suspended")
    if job.suspended:
        status.pop("startTime", None)
        if known is not None and known.get("status") == "True":
            return []
        message = "Job suspended"
        status["conditions"] = _with(
            status, "Suspended", "True", reason="JobSuspended", message=message, now=now
        )
        return [(NORMAL, "Suspended", message)]
    if known is None or known.get("status") == "False":
        return []
    message = "Job resumed"
    status["conditions"] = _with(
        status, "Suspended", "False", reason="JobResumed", message=message, now=now
    )
    status["startTime"] = text_of(now)
    return [(NORMAL, "Resumed", message)]


def _finish(job: Job, status: Status, end: End, now: float) -> tuple[Said, ...]:
    name = "Complete" if end.succeeded else "Failed"
    status["conditions"] = _with(
        status, name, "True", reason=end.reason, message=end.message, now=now
    )
    status.setdefault("startTime", text_of(now))
    if not end.succeeded:
        return ((WARNING, end.reason, end.message),)
    status["completionTime"] = text_of(max(now, seconds_of(status["startTime"])))
    completed: Said = (NORMAL, "Completed", "Job completed")
    if job.completions is not None and status.get("succeeded", 0) > job.completions:
        text = "Too many succeeded pods running after completion count reached"
        return ((WARNING, "TooManySucceededPods", text), completed)
    return (completed,)


def _with(
    status: Status, name: str, value: str, *, reason: str, message: str, now: float
) -> list[conditions.Condition]:
    at = text_of(now)
    condition = {
        "type": name,
        "status": value,
        "lastProbeTime": at,
        "lastTransitionTime": at,
        "reason": reason,
        "message": message,
    }
    before = list(status.get("conditions") or ())
    if conditions.find(before, name) is None:
        return [*before, condition]
    return [condition if each.get("type") == name else each for each in before]


def _put(status: Status, name: str, value: object) -> None:
    if value:
        status[name] = value
    else:
        status.pop(name, None)


def _tidy(status: Status) -> None:
    """What is none is not written."""
    for name in ("active", "failed", "succeeded"):
        _put(status, name, status.get(name, 0))
