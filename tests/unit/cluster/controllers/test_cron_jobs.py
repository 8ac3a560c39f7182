# SPDX-License-Identifier: Apache-2.0
"""When a CronJob makes a Job, and what it makes of those that there are."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api import cron
from kedge.cluster.controllers.cron_jobs.plan import Plan, job_for, plan, surplus
from kedge.cluster.controllers.cron_jobs.schedule import Missed, NeverError, recent
from kedge.cluster.controllers.finished_jobs import seconds_left
from kedge.cluster.machinery import batch
from kedge.cluster.machinery.times import seconds_of, text_of

NOON = int(seconds_of("2026-05-01T12:00:00Z"))
_numbers = itertools.count(1)


def stored(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "tick",
            "namespace": "default",
            "uid": "cron",
            "creationTimestamp": text_of(NOON - 60),
        },
        "spec": {
            "schedule": "0 * * * *",
            "concurrencyPolicy": "Allow",
            "jobTemplate": {
                "metadata": {"labels": {"a": "b"}, "annotations": {"n": "o"}},
                "spec": {"template": {}},
            },
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
            **spec,
        },
        "status": status or {},
    }


def job(name: str, finished: str = "", started: int = NOON, ttl: int | None = None) -> batch.Job:
    status: dict[str, Any] = {"startTime": text_of(started)}
    if finished:
        end = text_of(started + 30)
        condition = {"type": finished, "status": "True", "lastTransitionTime": end}
        status["conditions"] = [condition]
        if finished == "Complete":
            status["completionTime"] = end
    body = {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {} if ttl is None else {"ttlSecondsAfterFinished": ttl},
        "status": status,
    }
    return batch.job_of(json.dumps(body).encode(), next(_numbers))


def reference(name: str) -> dict[str, Any]:
    return {"kind": "Job", "namespace": "default", "name": name, "uid": f"uid-{name}"}


def decide(
    one: dict[str, Any], jobs: list[batch.Job] | None = None, now: float = NOON + 0.5
) -> Plan:
    return plan(one, jobs or [], lambda _: False, now)


def said(made: Plan) -> list[str]:
    return [reason for _, reason, _ in made.said]


def test_a_start_that_is_due_makes_a_job_named_after_its_minute():
    made = decide(stored(timeZone="Europe/Berlin"))
    assert made.start == NOON
    assert made.again == pytest.approx(3600 - 0.4)
    body = job_for(stored(timeZone="Europe/Berlin"), NOON)
    metadata = body["metadata"]
    assert metadata["name"] == f"tick-{NOON // 60}"
    assert metadata["labels"] == {"a": "b"}
    at = metadata["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
    assert at == "2026-05-01T14:00:00+02:00"
    assert metadata["annotations"]["n"] == "o"
    assert metadata["ownerReferences"][0]["uid"] == "cron"
    assert body["spec"] == {"template": {}}


def test_nothing_is_made_before_its_time_or_twice():
    early = decide(stored(), now=NOON - 30)
    assert (early.start, early.again) == (None, pytest.approx(30.1))
    again = decide(stored({"lastScheduleTime": text_of(NOON)}))
    assert (again.start, again.again) == (None, pytest.approx(3600 - 0.4))
    named = decide(
        stored({"active": [reference(f"tick-{NOON // 60}")]}), [job(f"tick-{NOON // 60}")]
    )
    assert named.start is None


def test_a_schedule_is_of_its_zone():
    made = decide(stored(schedule="0 14 * * *", timeZone="Europe/Berlin"))
    assert made.start == NOON
    assert decide(stored(schedule="0 14 * * *")).start is None


def test_a_suspended_or_deleted_cron_job_makes_nothing():
    assert (decide(stored(suspend=True)).start, decide(stored(suspend=True)).again) == (None, None)
    going = stored()
    going["metadata"]["deletionTimestamp"] = text_of(NOON)
    assert decide(going).start is None


def test_a_start_that_is_too_late_is_missed_and_said():
    one = stored(startingDeadlineSeconds=10)
    assert decide(one, now=NOON + 9).start == NOON
    late = decide(one, now=NOON + 11)
    assert late.start is None
    hourly = stored({"lastScheduleTime": text_of(NOON - 7200)}, startingDeadlineSeconds=0)
    assert decide(hourly, now=NOON).start is None


def test_many_missed_starts_are_said_and_the_last_one_counts():
    one = stored({"lastScheduleTime": text_of(NOON - 101 * 3600)})
    made = decide(one)
    assert (made.start, said(made)) == (NOON, ["TooManyMissedTimes"])
    few = decide(stored({"lastScheduleTime": text_of(NOON - 99 * 3600)}))
    assert (few.start, said(few)) == (NOON, [])


def test_what_still_runs_forbids_or_is_replaced_or_is_joined():
    status = {"active": [reference("old")], "lastScheduleTime": text_of(NOON - 3600)}
    running = [job("old")]
    assert decide(stored(status), running).start == NOON
    forbidden = decide(stored(status, concurrencyPolicy="Forbid"), running)
    assert (forbidden.start, said(forbidden)) == (None, ["JobAlreadyActive"])
    replaced = decide(stored(status, concurrencyPolicy="Replace"), running)
    assert (replaced.start, replaced.replace) == (NOON, (reference("old"),))
    ended = decide(stored(status, concurrencyPolicy="Forbid"), [job("old", "Complete")])
    assert ended.start == NOON


def test_the_status_follows_its_jobs():
    status = {
        "active": [reference("done"), reference("gone"), reference("runs")],
        "lastScheduleTime": text_of(NOON),
    }
    jobs = [job("done", "Complete"), job("runs"), job("strange"), job("lost", "Failed")]
    made = decide(stored(status), jobs)
    assert [each["name"] for each in made.status["active"]] == ["runs"]
    assert made.status["lastSuccessfulTime"] == text_of(NOON + 30)
    assert said(made) == ["SawCompletedJob", "UnexpectedJob", "MissingJob"]
    assert decide(stored(made.status), jobs).status == made.status


def test_history_keeps_the_newest():
    jobs = [job(f"ok{number}", "Complete", NOON + number) for number in range(5)]
    jobs += [job(f"bad{number}", "Failed", NOON + number) for number in range(2)]
    names = [each.name for each in surplus(stored(), [*jobs, job("runs")])]
    assert names == ["ok0", "ok1", "bad0"]
    assert len(surplus(stored(successfulJobsHistoryLimit=0), jobs)) == 6


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"schedule": "0 0 31 2 *"}, "InvalidSchedule"),
        ({"schedule": "nonsense"}, "UnparseableSchedule"),
        ({"timeZone": "No/Where"}, "UnknownTimeZone"),
    ],
)
def test_a_schedule_that_never_comes_is_said_and_not_asked_again(spec: dict[str, Any], reason: str):
    made = decide(stored(**spec))
    assert (said(made), made.start, made.again) == ([reason], None, None)


@given(
    st.sampled_from(["*/5 * * * *", "30 6-16/4 * * 1-5", "0 0 1 * *", "@every 7m", "0 0 * * 0"]),
    st.integers(NOON, NOON + 10**7),
    st.integers(0, 10**6),
)
def test_the_start_that_counts_is_the_last_one_that_is_due(text: str, earliest: int, passed: int):
    """Against all starts, one by one."""
    schedule, now = cron.parse(text), earliest + passed
    every = [schedule.next_after(earliest)]
    while every[-1] is not None and every[-1] <= now:
        every.append(schedule.next_after(every[-1]))
    due = [each for each in every if each is not None and each <= now]
    found = recent(schedule, earliest, now)
    if len(due) < 2:
        assert found.start == (due[0] if due else None)
        assert found.missed is Missed.NONE
    elif found.start is not None:
        assert found.start == due[-1]
    else:
        assert found.missed is not Missed.NONE, "an uneven schedule may be looked for too late"


def test_a_schedule_without_two_starts_never_comes():
    with pytest.raises(NeverError):
        recent(cron.parse("0 0 31 2 *"), NOON, NOON + 1)


def test_a_finished_job_goes_when_its_time_is_over():
    assert seconds_left(job("a", "Complete", ttl=100), NOON + 50) == 80
    assert seconds_left(job("a", "Failed", ttl=0), NOON + 50) == 0
    assert seconds_left(job("a", ttl=0), NOON) is None
    assert seconds_left(job("a", "Complete"), NOON) is None
