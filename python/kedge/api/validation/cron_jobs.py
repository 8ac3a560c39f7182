# SPDX-License-Identifier: Apache-2.0
"""Rules of CronJobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kedge.api import cron
from kedge.api.validation import jobs

if TYPE_CHECKING:
    from kedge.api.validation.problems import Problems

Object = dict[str, Any]

NAME_LENGTH = 52
"""A Job's name is 11 characters longer, and 63 at most."""
_ZONE_PART = re.compile(r"[A-Za-z._0-9+-]{1,14}", re.ASCII)


def validate(obj: Object, problems: Problems) -> None:
    """A CronJob that is made, or whose spec changes."""
    spec = obj.get("spec", {})
    _schedule(spec, problems)
    jobs.not_negative(spec, "startingDeadlineSeconds", "spec", problems)
    policies = ("Allow", "Forbid", "Replace")
    policy = spec.get("concurrencyPolicy")
    if not policy:
        problems.required("spec.concurrencyPolicy")
    elif policy not in policies:
        problems.unsupported("spec.concurrencyPolicy", policy, policies)
    _job_template(spec.get("jobTemplate", {}), "spec.jobTemplate", problems)
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        jobs.not_negative(spec, field, "spec", problems)


def validate_create(obj: Object, problems: Problems) -> None:
    """What is asked of a new CronJob only."""
    spec = obj.get("spec", {})
    name = obj["metadata"].get("name", "")
    if len(name) > NAME_LENGTH:
        detail = f"must be no more than {NAME_LENGTH} characters"
        problems.invalid("metadata.name", name, detail)
    _zone(spec, problems)
    if "TZ" in spec.get("schedule", ""):
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        problems.invalid("spec.schedule", spec["schedule"], detail)


def validate_update(new: Object, old: Object, problems: Problems) -> None:
    """A zone in the schedule may stay where it was allowed once."""
    spec, before = new.get("spec", {}), old.get("spec", {})
    schedule = spec.get("schedule", "")
    if spec.get("timeZone") != before.get("timeZone"):
        _zone(spec, problems)
    if "TZ" not in schedule:
        return
    if "TZ" not in before.get("schedule", ""):
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        problems.invalid("spec.schedule", schedule, detail)
    elif "timeZone" in spec:
        detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        problems.invalid("spec.schedule", schedule, detail)


def _schedule(spec: Object, problems: Problems) -> None:
    schedule = spec.get("schedule")
    if not schedule:
        problems.required("spec.schedule")
        return
    try:
        cron.parse(schedule)
    except cron.ScheduleError as error:
        problems.invalid("spec.schedule", schedule, str(error))


def _zone(spec: Object, problems: Problems) -> None:
    zone = spec.get("timeZone")
    if zone is None:
        return
    if not zone:
        problems.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
        return
    for part in zone.split("/"):
        odd = part in (".", "..") or part.startswith("-")
        if odd or not _ZONE_PART.fullmatch(part):
            problems.invalid("spec.timeZone", zone, f"unknown time zone {zone}")
            return
    if zone.lower() == "local":
        detail = (
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        )
        problems.invalid("spec.timeZone", zone, detail)
    try:
        cron.location(zone)
    except cron.ScheduleError as error:
        problems.invalid("spec.timeZone", zone, str(error))


def _job_template(template: Object, path: str, problems: Problems) -> None:
    spec = template.get("spec", {})
    jobs.validate_spec(spec, f"{path}.spec", problems)
    if "selector" in spec:
        detail = "`selector` will be auto-generated"
        problems.invalid(f"{path}.spec.selector", spec["selector"], detail)
    manual = spec.get("manualSelector")
    if manual:
        problems.unsupported(f"{path}.spec.manualSelector", manual, ("nil", "false"))
