# SPDX-License-Identifier: Apache-2.0
"""A Job as decisions see it: its spec with defaults, and its status as it was stored. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.api.indexes import Indexes
from kedge.cluster.machinery import conditions
from kedge.cluster.machinery.job_pods import UNKNOWN
from kedge.cluster.machinery.times import seconds_of

if TYPE_CHECKING:
    from kedge.cluster.machinery.records import Pod
    from kedge.cluster.machinery.wire import Object

BACKOFF_LIMIT = 6


@dataclass(frozen=True, slots=True)
class Job:
    """A Job.

    Attributes:
        completions: None for a work queue, which ends with the first success.
        failure_rules: of its ``podFailurePolicy``; None without one.
        success_rules: of its ``successPolicy``.
        only_failed: a pod is replaced only when it has failed, not while it goes away.
        in_place: containers start again in their pod (``restartPolicy: OnFailure``).
        status: as stored; not to be changed.
    """

    namespace: str
    name: str
    uid: str
    deleted: bool
    parallelism: int
    completions: int | None
    indexed: bool
    backoff_limit: int
    backoff_limit_per_index: int | None
    max_failed_indexes: int | None
    active_deadline: int | None
    suspended: bool
    failure_rules: tuple[Object, ...] | None
    success_rules: tuple[Object, ...]
    only_failed: bool
    in_place: bool
    status: Object

    @classmethod
    def of(cls, stored: Object) -> Job:
        """Reads a stored Job."""
        metadata, spec = stored["metadata"], stored.get("spec") or {}
        pod = (spec.get("template") or {}).get("spec") or {}
        policy = spec.get("podFailurePolicy")
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            deleted="deletionTimestamp" in metadata,
            parallelism=spec.get("parallelism", 1),
            completions=spec.get("completions"),
            indexed=spec.get("completionMode") == "Indexed",
            backoff_limit=spec.get("backoffLimit", BACKOFF_LIMIT),
            backoff_limit_per_index=spec.get("backoffLimitPerIndex"),
            max_failed_indexes=spec.get("maxFailedIndexes"),
            active_deadline=spec.get("activeDeadlineSeconds"),
            suspended=bool(spec.get("suspend")),
            failure_rules=None if policy is None else tuple(policy.get("rules") or ()),
            success_rules=tuple((spec.get("successPolicy") or {}).get("rules") or ()),
            only_failed=policy is not None or spec.get("podReplacementPolicy") == "Failed",
            in_place=pod.get("restartPolicy") == "OnFailure",
            status=stored.get("status") or {},
        )

    @property
    def started_at(self) -> float | None:
        """When it began to be active; None while it is not."""
        text = self.status.get("startTime")
        return seconds_of(text) if text else None

    @property
    def uncounted_succeeded(self) -> list[str]:
        """Pods, by uid, that succeeded and are not in the counts yet."""
        return list((self.status.get("uncountedTerminatedPods") or {}).get("succeeded") or ())

    @property
    def uncounted_failed(self) -> list[str]:
        """Pods, by uid, that failed and are not in the counts yet."""
        return list((self.status.get("uncountedTerminatedPods") or {}).get("failed") or ())

    @property
    def completed_indexes(self) -> Indexes:
        """Indexes that are known to have succeeded."""
        text = self.status.get("completedIndexes") or ""
        return Indexes.read(text, self.completions or 0)

    @property
    def failed_indexes(self) -> Indexes:
        """Indexes that are known to have failed for good."""
        return Indexes.read(self.status.get("failedIndexes") or "", self.completions or 0)

    def condition(self, name: str) -> Object | None:
        """The condition of that type when it is True."""
        found = conditions.find(self.status.get("conditions"), name)
        return dict(found) if found is not None and found.get("status") == "True" else None

    @property
    def is_finished(self) -> bool:
        """It has succeeded or failed, and is done with."""
        return self.condition("Complete") is not None or self.condition("Failed") is not None

    def has_index(self, pod: Pod) -> bool:
        """Whether a pod counts by its index: any pod does, unless the Job is indexed."""
        return not self.indexed or UNKNOWN < index_of(pod) < (self.completions or 0)

    def has_failed(self, pod: Pod) -> bool:
        """Whether a pod counts as failed: also one that goes away, where it is replaced at once."""
        if pod.phase == "Failed":
            return True
        return not self.only_failed and pod.deleted and pod.phase != "Succeeded"


def index_of(pod: Pod) -> int:
    """A pod's completion index."""
    return pod.job.index if pod.job is not None else UNKNOWN


def is_tracked(pod: Pod) -> bool:
    """Whether a pod is still to be counted."""
    return pod.job is not None and pod.job.tracked


def is_terminating(pod: Pod) -> bool:
    """Whether a pod goes away and has not ended."""
    return pod.deleted and not pod.finished
