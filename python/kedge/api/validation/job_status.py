# SPDX-License-Identifier: Apache-2.0
"""Rules of a Job's status, which controllers of others (``managedBy``) write as well.

Most rules ask only when what they are about has changed, so that a status which broke one before
it was a rule, or for which the spec has changed since, can still be written.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from kedge.api import indexes
from kedge.api.validation.jobs import is_true, not_negative

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

_CONDITIONS = "status.conditions"
_TERMINAL = ("Failed", "Complete", "FailureTarget")


def validate(job: Object, before: Object, problems: Problems) -> None:
    """A Job's new status, by itself and against what it was."""
    status, spec = job.get("status", {}), job.get("spec", {})
    changed = _Changes(before, status)
    for field in ("active", "succeeded", "failed", "ready", "terminating"):
        not_negative(status, field, "status", problems)
    _uncounted(status.get("uncountedTerminatedPods") or {}, problems)
    _conditions(status, before, changed, problems)
    _finished(status, changed, problems)
    _times(spec, status, before, changed, problems)
    _indexes(spec, status, changed, problems)
    indexed = spec.get("completionMode") == "Indexed"
    may_shrink = indexed and spec.get("completions") == spec.get("parallelism")
    for field in ("failed",) if may_shrink else ("failed", "succeeded"):
        if status.get(field, 0) < before.get(field, 0):
            detail = f"cannot decrease the {field} counter"
            problems.invalid(f"status.{field}", status.get(field, 0), detail)


class _Changes:
    """What of a status has changed."""

    def __init__(self, before: Object, after: Object) -> None:
        self._before, self._after = before, after

    def __contains__(self, field: str) -> bool:
        return (self._before.get(field) or None) != (self._after.get(field) or None)

    def turned(self, *conditions: str) -> bool:
        """Whether one of the conditions has become True, or is no more."""
        return any(is_true(self._before, one) != is_true(self._after, one) for one in conditions)


def _uncounted(uncounted: Mapping[str, list[str]], problems: Problems) -> None:
    seen: set[str] = set()
    for field in ("succeeded", "failed"):
        for index, uid in enumerate(uncounted.get(field) or ()):
            path = f"status.uncountedTerminatedPods.{field}[{index}]"
            if not uid:
                problems.invalid(path, uid, "must not be empty")
            elif uid in seen:
                problems.duplicate(path, uid)
            seen.add(uid)


def _conditions(status: Object, before: Object, changed: _Changes, problems: Problems) -> None:
    complete, failed = is_true(status, "Complete"), is_true(status, "Failed")
    target, met = is_true(status, "FailureTarget"), is_true(status, "SuccessCriteriaMet")
    for rule, detail in (
        (
            complete and failed and changed.turned("Complete", "Failed"),
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            complete and target and changed.turned("Complete", "FailureTarget"),
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            failed and not target and changed.turned("Failed"),
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            complete and not met and changed.turned("Complete"),
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (met and failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (met and target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
        (
            is_true(before, "SuccessCriteriaMet") and not met,
            "cannot disable the SuccessCriteriaMet=True condition",
        ),
        (
            is_true(before, "Complete") and met and not is_true(before, "SuccessCriteriaMet"),
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        ),
        *(
            (
                is_true(before, name) and not is_true(status, name),
                f"cannot disable the terminal {name}=True condition",
            )
            for name in _TERMINAL
        ),
    ):
        if rule:
            problems.unfit(_CONDITIONS, detail)


def _finished(status: Object, changed: _Changes, problems: Problems) -> None:
    if not (is_true(status, "Complete") or is_true(status, "Failed")):
        return
    is_new = changed.turned("Complete", "Failed")
    active, terminating = status.get("active", 0), status.get("terminating", 0)
    if active > 0 and (is_new or "active" in changed):
        problems.invalid("status.active", active, "active>0 is invalid for finished job")
    if terminating > 0 and (is_new or "terminating" in changed):
        detail = "terminating>0 is invalid for finished job"
        problems.invalid("status.terminating", terminating, detail)
    if "startTime" not in status and (is_new or "startTime" in changed):
        problems.required("status.startTime", "startTime is required for finished job")
    uncounted = status.get("uncountedTerminatedPods") or {}
    if any(uncounted.values()) and (is_new or "uncountedTerminatedPods" in changed):
        detail = "uncountedTerminatedPods needs to be empty for finished job"
        problems.invalid("status.uncountedTerminatedPods", uncounted, detail)


def _times(
    spec: Object, status: Object, before: Object, changed: _Changes, problems: Problems
) -> None:
    start, end = status.get("startTime"), status.get("completionTime")
    had_start, had_end = before.get("startTime"), before.get("completionTime")
    complete = is_true(status, "Complete")
    path = "status.completionTime"
    if end is not None and had_end is not None and end != had_end:
        problems.invalid(path, end, "completionTime cannot be mutated")
    if changed.turned("Complete") or "completionTime" in changed:
        if end is not None and not complete:
            detail = "cannot set completionTime when there is no Complete=True condition"
            problems.invalid(path, end, detail)
        if end is None and complete:
            problems.required(path, "completionTime is required for Complete jobs")
    if "startTime" not in changed and "completionTime" not in changed:
        return
    if start is not None and end is not None and _is_before(end, start):
        problems.invalid(path, end, "completionTime cannot be set before startTime")
    if had_start is not None and start != had_start and not spec.get("suspend"):
        detail = "startTime cannot be removed for unsuspended job"
        problems.required("status.startTime", detail)


def _is_before(one: str, other: str) -> bool:
    try:
        return datetime.fromisoformat(one) < datetime.fromisoformat(other)
    except ValueError:
        return False


def _indexes(spec: Object, status: Object, changed: _Changes, problems: Problems) -> None:
    completed, failed = status.get("completedIndexes", ""), status.get("failedIndexes")
    completions = spec.get("completions")
    done, lost = indexes.Indexes(), indexes.Indexes()
    if "completedIndexes" in changed:
        if completed and spec.get("completionMode") != "Indexed":
            detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
            problems.invalid("status.completedIndexes", completed, detail)
        if completions is not None:
            done, complaint = indexes.check(completed, completions)
            if complaint:
                detail = f"error parsing completedIndexes: {complaint}"
                problems.invalid("status.completedIndexes", completed, detail)
    if "failedIndexes" in changed and failed is not None:
        if "backoffLimitPerIndex" not in spec:
            detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
            problems.invalid("status.failedIndexes", failed, detail)
        elif completions is not None:
            lost, complaint = indexes.check(failed, completions)
            if complaint:
                detail = f"error parsing failedIndexes: {complaint}"
                problems.invalid("status.failedIndexes", failed, detail)
    if completions is None or not ("completedIndexes" in changed or "failedIndexes" in changed):
        return
    done = indexes.Indexes.read(completed, completions)
    lost = indexes.Indexes.read(failed or "", completions)
    if done.in_common(lost):
        both = min(max(a, c) for a, b in done.spans for c, d in lost.spans if a <= d and c <= b)
        detail = f"failedIndexes and completedIndexes overlap at index: {both}"
        problems.invalid("status.failedIndexes", failed, detail)
