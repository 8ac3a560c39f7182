# SPDX-License-Identifier: Apache-2.0
"""What the failure of a pod means to its Job, and which successes are enough. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kedge.api.indexes import Indexes
from kedge.cluster.controllers.jobs.model import Job, index_of, is_tracked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedge.cluster.machinery.records import Pod
    from kedge.cluster.machinery.wire import Object


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed pod means.

    Attributes:
        counts: it counts towards the limits.
        action: of the rule that matched; empty when none did.
        message: why the Job fails, if it does.
    """

    counts: bool = True
    action: str = ""
    message: str = ""


def judge(job: Job, pod: Pod) -> Verdict:
    """Holds a failed pod against the Job's rules; the first that matches decides."""
    for number, rule in enumerate(job.failure_rules or ()):
        codes, action = rule.get("onExitCodes"), rule.get("action", "")
        if codes is not None:
            found = _exit(pod, codes)
            if found is None:
                continue
            why = f"Container {found[0]} for pod {pod.namespace}/{pod.name} failed with exit code {found[1]}"
        else:
            condition = _condition(pod, rule.get("onPodConditions") or ())
            if condition is None:
                continue
            why = f"Pod {pod.namespace}/{pod.name} has condition {condition}"
        message = f"{why} matching {action} rule at index {number}" if action == "FailJob" else ""
        return Verdict(counts=action != "Ignore", action=action, message=message)
    return Verdict()


def _exit(pod: Pod, codes: Object) -> tuple[str, int] | None:
    """The first container that ended with an error of that kind."""
    wanted, values = codes.get("containerName"), codes.get("values") or ()
    is_in = codes.get("operator") == "In"
    for name, code in pod.job.exits if pod.job is not None else ():
        if wanted in (None, name) and (code in values) == is_in:
            return name, code
    return None


def _condition(pod: Pod, patterns: Iterable[Object]) -> str | None:
    """The first condition of a pod that matches a pattern."""
    wanted = {(one.get("type"), one.get("status", "True")) for one in patterns}
    have = pod.job.conditions if pod.job is not None else ()
    return next((each[0] for each in have if each in wanted), None)


def failure_of(job: Job, pods: Iterable[Pod]) -> str:
    """Why a rule fails the whole Job; empty when none does."""
    if job.failure_rules is None:
        return ""
    messages = (judge(job, pod).message for pod in pods if job.has_failed(pod))
    return next((message for message in messages if message), "")


def success_of(job: Job, succeeded: Indexes) -> str:
    """Which rule says that the indexes are enough; empty when none does."""
    if not succeeded.spans:
        return ""
    for number, rule in enumerate(job.success_rules):
        text, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        have = len(succeeded)
        if text is not None:
            wanted = Indexes.read(text, job.completions or 0)
            if not wanted.spans:
                continue
            have = succeeded.in_common(wanted)
            met = have == len(wanted) or (count is not None and have >= count)
        else:
            met = count is not None and have >= count
        if met:
            return f"Matched rules at index {number}"
    return ""


def succeeded_indexes(job: Job, pods: Iterable[Pod]) -> Indexes:
    """Indexes that have succeeded, those of pods that are not counted yet among them."""
    return job.completed_indexes | Indexes.of(
        index_of(pod)
        for pod in pods
        if pod.phase == "Succeeded" and is_tracked(pod) and job.has_index(pod)
    )


def failed_indexes(job: Job, pods: Iterable[Pod]) -> Indexes:
    """Indexes that have failed for good, those of pods that are not counted yet among them."""
    return job.failed_indexes | Indexes.of(
        index_of(pod)
        for pod in pods
        if is_tracked(pod) and job.has_index(pod) and _fails_index(job, pod)
    )


def _fails_index(job: Job, pod: Pod) -> bool:
    if not job.has_failed(pod):
        return False
    verdict = judge(job, pod)
    if verdict.action == "FailIndex":
        return True
    failures = pod.job.failures if pod.job is not None else 0
    return verdict.counts and failures >= (job.backoff_limit_per_index or 0)


def last_failures(
    job: Job, pods: Iterable[Pod], succeeded: Indexes, failed: Indexes
) -> dict[int, Pod]:
    """The last failed pod of each index that waits for another: it hands on how often it failed."""
    pods = list(pods)
    taken = {index_of(pod) for pod in pods if pod.active}
    found: dict[int, Pod] = {}
    for pod in pods:
        index = index_of(pod)
        if not (is_tracked(pod) and job.has_index(pod) and job.has_failed(pod)):
            continue
        if index in taken or index in succeeded or index in failed:
            continue
        last = found.get(index)
        if last is None or _is_later(pod, last):
            found[index] = pod
    return found


def failures_of(pod: Pod) -> int:
    """How often an index had failed before a pod, in whatever way."""
    return pod.job.failures + pod.job.ignored if pod.job is not None else 0


def ended_at(pod: Pod) -> float:
    """When a pod ended."""
    return pod.job.finished_at if pod.job is not None else pod.created


def _is_later(pod: Pod, last: Pod) -> bool:
    return failures_of(last) <= failures_of(pod) and ended_at(pod) >= ended_at(last)
