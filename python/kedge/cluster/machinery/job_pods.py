# SPDX-License-Identifier: Apache-2.0
"""What Jobs read of their pods, beside what everybody does: held for no other pods. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from kedge.cluster.machinery.times import seconds_of

if TYPE_CHECKING:
    from kedge.cluster.machinery import wire

TRACKING = "batch.kubernetes.io/job-tracking"
"""The finalizer of a pod that its Job has not counted yet."""
UNKNOWN = -1
"""The index of a pod that has none."""
_MOST = 2**31 - 1


class JobPod(Struct, frozen=True, weakref=False):
    """One pod of a Job, or one that was."""

    tracked: bool
    """It has the finalizer: whatever it comes to is still to be counted."""
    index: int
    failures: int
    """How often its index had failed before it."""
    ignored: int
    """How often its index had failed before it in a way that does not count."""
    restarts: int
    """Of all its containers."""
    finished_at: float
    exits: tuple[tuple[str, int], ...]
    """Names and codes of the containers that ended with an error, init containers last."""
    conditions: tuple[tuple[str, str], ...]
    """Types and statuses, of a pod that failed or goes away."""
    is_gone: bool = False
    """Its node has let it go, or somebody did not want to wait for that: only finalizers are left."""


def job_pod_of(pod: wire.PodObject, owner: wire.OwnerReference | None) -> JobPod | None:
    """What a Job reads of a pod; None for a pod that is none of a Job's business."""
    metadata, status = pod.metadata, pod.status
    tracked = TRACKING in (metadata.finalizers or ())
    if not tracked and (owner is None or owner.kind != "Job"):
        return None
    notes = metadata.annotations
    deleted = metadata.deletion_timestamp is not None
    containers = (*(status.container_statuses or ()), *(status.init_container_statuses or ()))
    ended = [
        (one.name, one.state.terminated.exit_code)
        for one in containers
        if one.state is not None and one.state.terminated is not None
    ]
    return JobPod(
        tracked=tracked,
        index=_number(notes.job_index if notes else "", UNKNOWN),
        failures=_number(notes.job_failures if notes else "", 0),
        ignored=_number(notes.job_ignored if notes else "", 0),
        restarts=sum(one.restart_count or 0 for one in containers),
        finished_at=_finished_at(pod),
        exits=tuple((name, code) for name, code in ended if code != 0),
        conditions=tuple((one.type, one.status) for one in status.conditions or ())
        if deleted or status.phase == "Failed"
        else (),
        is_gone=deleted and not metadata.deletion_grace_period_seconds,
    )


def _number(text: str, otherwise: int) -> int:
    """A number that anybody may have written."""
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return otherwise
    number = int(text)
    return number if number <= _MOST else otherwise


def _finished_at(pod: wire.PodObject) -> float:
    """When a pod ended: by its containers, by its readiness, by its deletion, at worst its creation."""
    states = [one.state for one in pod.status.container_statuses or ()]
    times = [
        seconds_of(one.terminated.finished_at) if one is not None and one.terminated else 0.0
        for one in states
    ]
    if times and all(times):
        return max(times)
    for condition in pod.status.conditions or ():
        is_unready = condition.type == "Ready" and condition.status == "False"
        if is_unready and condition.last_transition_time:
            return seconds_of(condition.last_transition_time)
    metadata = pod.metadata
    if metadata.deletion_timestamp is not None:
        grace = metadata.deletion_grace_period_seconds or 0
        return seconds_of(metadata.deletion_timestamp) - grace
    return seconds_of(metadata.creation_timestamp)
