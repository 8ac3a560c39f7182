# SPDX-License-Identifier: Apache-2.0
"""What a Job does next: whether it has ended, and which pods to create or delete. Pure.

An end is said twice. The first condition (``SuccessCriteriaMet`` or ``FailureTarget``) is written
before pods lose their finalizers, so that a Job that was about to end does so whatever becomes of its
pods; the final one (``Complete`` or ``Failed``) when everything is counted and nothing runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from kedge.api.indexes import Indexes
from kedge.cluster.controllers.jobs import policies
from kedge.cluster.controllers.jobs.backoff import Backoff, remaining_of_index
from kedge.cluster.controllers.jobs.model import index_of, is_terminating, is_tracked
from kedge.cluster.machinery.job_pods import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kedge.cluster.controllers.jobs.model import Job
    from kedge.cluster.machinery.records import Pod

BURST = 500
"""The most pods that one turn creates or deletes."""
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class End:
    """How a Job ends."""

    succeeded: bool
    reason: str
    message: str


COMPLETED = End(
    succeeded=True,
    reason="CompletionsReached",
    message="Reached expected number of succeeded pods",
)
_BACKOFF = End(
    succeeded=False,
    reason="BackoffLimitExceeded",
    message="Job has reached the specified backoff limit",
)
_DEADLINE = End(
    succeeded=False,
    reason="DeadlineExceeded",
    message="Job was active longer than specified deadline",
)
_TOO_MANY_INDEXES = End(
    succeeded=False,
    reason="MaxFailedIndexesExceeded",
    message="Job has exceeded the specified maximal number of failed indexes",
)
_FAILED_INDEXES = End(succeeded=False, reason="FailedIndexes", message="Job has failed indexes")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        end: how the Job ends, if it does now.
        stop: active pods to delete because of that; they are counted before they go.
        drop: active pods to delete because there are too many; they are not counted at all.
        create: the indexes of pods to create, ``UNKNOWN`` for each of a Job without indexes.
        managed: the number of pods was looked at, so that the Job is known to be suspended or not.
        succeeded: indexes that have succeeded.
        failed: indexes that have failed for good; None where indexes have no limit.
        last: the last failed pod of each index that waits for another one.
        backoff: the record of failures, once they are counted.
        again: seconds until the Job wants to be looked at.
    """

    end: End | None
    stop: tuple[Pod, ...] = ()
    drop: tuple[Pod, ...] = ()
    create: tuple[int, ...] = ()
    managed: bool = False
    succeeded: Indexes = field(default_factory=Indexes)
    failed: Indexes | None = None
    last: dict[int, Pod] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    again: float | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a Job has come to, with pods that are not in its status yet."""

    succeeded: int
    failed: int
    indexes: Indexes
    failed_indexes: Indexes | None


def plan(job: Job, pods: Sequence[Pod], backoff: Backoff, now: float) -> Plan:
    """Decides.

    Args:
        job: the Job.
        pods: its pods.
        backoff: the record of failures so far.
        now: epoch seconds.
    """
    uncounted = {*job.uncounted_succeeded, *job.uncounted_failed}
    new = [pod for pod in pods if is_tracked(pod) and pod.uid not in uncounted]
    new = [pod for pod in new if job.has_index(pod)]
    succeeded = [pod for pod in new if pod.phase == "Succeeded"]
    failed = [pod for pod in new if job.has_failed(pod)]
    seen = _seen(job, pods, succeeded, failed)
    backoff = backoff.after(succeeded, failed)
    last: dict[int, Pod] = {}
    if seen.failed_indexes is not None:
        last = policies.last_failures(job, pods, seen.indexes, seen.failed_indexes)
    made = Plan(
        _end(job, pods, seen, now),
        succeeded=seen.indexes,
        failed=seen.failed_indexes,
        last=last,
        backoff=backoff,
        again=_deadline_in(job, now),
    )
    if made.end is not None:
        return replace(made, stop=tuple(pod for pod in pods if pod.active))
    if job.deleted:
        return replace(made, end=_completed(job, seen, sum(pod.active for pod in pods)))
    return _manage(job, pods, seen, made, now)


def deletion_order(pods: Iterable[Pod]) -> list[Pod]:
    """Active pods, the one to go first in front: what has come least far.

    Unassigned before assigned, pending before running, not ready before ready, ready for a shorter
    time, more restarts, and the younger.
    """

    def rank(pod: Pod) -> tuple[Any, ...]:
        return (
            bool(pod.node),
            _PHASES.get(pod.phase, 2),
            pod.ready,
            -pod.ready_since if pod.ready else 0,
            -pod.restarts,
            -pod.created,
            pod.uid,
        )

    return sorted((pod for pod in pods if pod.active), key=rank)


def _seen(job: Job, pods: Sequence[Pod], succeeded: Sequence[Pod], failed: Sequence[Pod]) -> _Seen:
    lost = sum(policies.judge(job, pod).counts for pod in failed)
    failures = job.status.get("failed", 0) + lost + len(job.uncounted_failed)
    if not job.indexed:
        known = job.status.get("succeeded", 0) + len(job.uncounted_succeeded)
        return _Seen(known + len(succeeded), failures, Indexes(), None)
    done = policies.succeeded_indexes(job, pods)
    limited = job.backoff_limit_per_index is not None
    gone = policies.failed_indexes(job, pods) if limited else None
    return _Seen(len(done), failures, done, gone)


def _end(job: Job, pods: Sequence[Pod], seen: _Seen, now: float) -> End | None:
    """Whether the Job ends, and how; an end that was said stays."""
    for name, succeeded in (("SuccessCriteriaMet", True), ("FailureTarget", False)):
        said = job.condition(name)
        if said is not None:
            reason, message = said.get("reason") or "", said.get("message") or ""
            return End(succeeded=succeeded, reason=reason, message=message)
    message = policies.failure_of(job, pods)
    if message:
        return End(succeeded=False, reason="PodFailurePolicy", message=message)
    if seen.failed > job.backoff_limit or _restarted_too_often(job, pods):
        return _BACKOFF
    deadline = _deadline_in(job, now)
    if deadline is not None and deadline <= 0:
        return _DEADLINE
    return _end_by_indexes(job, seen) if job.indexed else None


def _end_by_indexes(job: Job, seen: _Seen) -> End | None:
    if seen.failed_indexes is not None:
        gone = len(seen.failed_indexes)
        if job.max_failed_indexes is not None and gone > job.max_failed_indexes:
            return _TOO_MANY_INDEXES
        if gone and gone + len(seen.indexes) >= (job.completions or 0):
            return _FAILED_INDEXES
    message = policies.success_of(job, seen.indexes)
    return End(succeeded=True, reason="SuccessPolicy", message=message) if message else None


def _restarted_too_often(job: Job, pods: Iterable[Pod]) -> bool:
    if not job.in_place:
        return False
    restarts = sum(
        pod.job.restarts
        for pod in pods
        if pod.job is not None and pod.phase in ("Running", "Pending")
    )
    return restarts > 0 and restarts >= job.backoff_limit


def _deadline_in(job: Job, now: float) -> float | None:
    """Seconds until the Job was active for too long; None when there is no such time."""
    if job.active_deadline is None or job.suspended:
        return None
    started = now if job.started_at is None else job.started_at
    return started + job.active_deadline - now


def _manage(job: Job, pods: Sequence[Pod], seen: _Seen, made: Plan, now: float) -> Plan:
    """How many pods to have: too many are deleted first, too few are created."""
    active = sum(pod.active for pod in pods)
    wanted = 0 if job.suspended else _wanted(job, seen, active)
    surplus = _surplus(job, deletion_order(pods), max(active - wanted, 0))
    if job.suspended or surplus:
        drop = tuple(surplus if job.suspended else surplus[:BURST])
        end = _completed(job, seen, active - len(drop))
        return replace(made, end=end, drop=drop, managed=True)
    going = sum(is_terminating(pod) for pod in pods) if job.only_failed else 0
    missing = min(wanted - going - active, BURST)
    create, wait = _create(job, pods, made, max(missing, 0), now)
    end = _completed(job, seen, active + len(create))
    again = _sooner(made.again, wait)
    return replace(made, end=end, create=create, managed=True, again=again)


def _wanted(job: Job, seen: _Seen, active: int) -> int:
    if job.completions is None:
        return active if seen.succeeded > 0 else job.parallelism
    return max(min(job.completions - seen.succeeded, job.parallelism), 0)


def _completed(job: Job, seen: _Seen, active: int) -> End | None:
    if active:
        return None
    if job.completions is None:
        return COMPLETED if seen.succeeded > 0 else None
    return COMPLETED if seen.succeeded >= job.completions else None


def _surplus(job: Job, order: Sequence[Pod], least: int) -> list[Pod]:
    """Active pods to delete: those whose index is none or another's too, then the first in order."""
    if not job.indexed:
        return list(order[:least])
    keep: dict[int, Pod] = {}
    for pod in order:
        if job.has_index(pod):
            keep[index_of(pod)] = pod
    kept = {pod.uid for pod in keep.values()}
    gone = [pod for pod in order if pod.uid not in kept]
    rest = [pod for pod in order if pod.uid in kept]
    return gone + rest[: max(least - len(gone), 0)]


def _create(
    job: Job, pods: Sequence[Pod], made: Plan, missing: int, now: float
) -> tuple[tuple[int, ...], float | None]:
    """The indexes of the pods to create now, and when others are due."""
    if not missing:
        return (), None
    if made.failed is None:
        wait = made.backoff.remaining(now)
        if wait > 0:
            return (), wait
    if not job.indexed:
        return (UNKNOWN,) * missing, None
    taken = [pod for pod in pods if pod.active or (job.only_failed and is_terminating(pod))]
    busy = made.succeeded | Indexes.of(index_of(pod) for pod in taken if job.has_index(pod))
    if made.failed is not None:
        busy |= made.failed
    pending = list(islice(busy.absent(job.completions or 0), missing))
    if made.failed is None:
        return tuple(pending), None
    waits = {index: remaining_of_index(made.last.get(index), now) for index in pending}
    later = [wait for wait in waits.values() if wait > 0]
    return tuple(index for index in pending if waits[index] <= 0), min(later, default=None)


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
