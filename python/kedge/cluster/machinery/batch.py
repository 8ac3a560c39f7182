# SPDX-License-Identifier: Apache-2.0
"""Records of Jobs: what others than a Job's own controller read, and who has to look at it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from kedge.cluster.machinery import wire
from kedge.cluster.machinery.records import Key, controller_of
from kedge.cluster.machinery.times import seconds_of

CONTROLLER = "kubernetes.io/job-controller"
"""What ``managedBy`` says of a Job that is ours; nothing says the same."""


class Job(Struct, weakref=False):
    """A Job."""

    namespace: str
    name: str
    uid: str
    version: int
    owner: wire.OwnerReference | None
    selector: wire.LabelSelector | None
    deleted: bool
    managed_by_others: bool
    finished: str
    """Complete or Failed; empty while neither."""
    finished_at: float
    started_at: float
    completed: str
    """``completionTime``, as written."""
    ttl: int | None
    """``ttlSecondsAfterFinished``."""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)


_jobs = msgspec.json.Decoder(wire.JobObject)


def job_of(value: bytes, version: int) -> Job:
    """A Job's record."""
    decoded = _jobs.decode(value)
    metadata, spec, status = decoded.metadata, decoded.spec, decoded.status
    end = next(
        (
            one
            for one in status.conditions or ()
            if one.type in ("Complete", "Failed") and one.status == "True"
        ),
        None,
    )
    return Job(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        version=version,
        owner=controller_of(metadata),
        selector=spec.selector,
        deleted=metadata.deletion_timestamp is not None,
        managed_by_others=spec.managed_by not in (None, CONTROLLER),
        finished=end.type if end is not None else "",
        finished_at=seconds_of(end.last_transition_time) if end is not None else 0.0,
        started_at=seconds_of(status.start_time),
        completed=status.completion_time or "",
        ttl=spec.ttl_seconds_after_finished,
    )
