# SPDX-License-Identifier: Apache-2.0
"""Cron schedules as Kubernetes reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.api.cron import ScheduleError, parse


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def times(schedule: str, start: str, count: int, zone: str = "") -> list[str]:
    at: float | None = seconds(start)
    found = []
    for _ in range(count):
        at = parse(schedule, zone).next_after(at or 0)
        found.append("" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M}")
    return found


@pytest.mark.parametrize(
    ("schedule", "start", "wanted"),
    [
        ("*/5 * * * *", "2026-01-01T00:00:00", ["2026-01-01T00:05", "2026-01-01T00:10"]),
        ("59 23 31 12 ?", "2026-01-01", ["2026-12-31T23:59", "2027-12-31T23:59"]),
        ("0 0 29 feb *", "2026-01-01", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0 9 * * mon-fri", "2026-01-02T10:00", ["2026-01-05T09:00", "2026-01-06T09:00"]),
        ("0 0 13 * 5", "2026-03-13", ["2026-03-20T00:00", "2026-03-27T00:00"]),
        ("0 0 */10 * 1", "2026-03-01", ["2026-03-02T00:00", "2026-03-09T00:00"]),
        ("5/20 3 * * *", "2026-01-01", ["2026-01-01T03:05", "2026-01-01T03:25"]),
        ("@hourly", "2026-01-01T00:00:01", ["2026-01-01T01:00", "2026-01-01T02:00"]),
        ("@weekly", "2026-01-01", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("@every 1h30m", "2026-01-01", ["2026-01-01T01:30", "2026-01-01T03:00"]),
    ],
)
def test_times_come_as_the_fields_say(schedule: str, start: str, wanted: list[str]):
    assert times(schedule, start, 2) == wanted


def test_a_day_that_never_comes_is_given_up():
    assert parse("0 0 31 2 *").next_after(seconds("2026-01-01")) is None
    assert parse("* * * * *").next_after(1e15) is None


def test_a_time_that_a_clock_change_leaves_out_does_not_come_and_one_it_repeats_comes_twice():
    zone = "America/New_York"
    spring = times("30 2 * * *", "2026-03-07T12:00:00", 2, zone)
    assert spring == ["2026-03-09T06:30", "2026-03-10T06:30"]
    autumn = times("30 1 * * *", "2026-11-01T00:00:00", 2, zone)
    assert autumn == ["2026-11-01T05:30", "2026-11-01T06:30"]


def test_a_midnight_that_a_clock_change_leaves_out_is_no_end():
    assert times("0 0 * * *", "2018-11-03T12:00:00", 2, "America/Sao_Paulo") == [
        "2018-11-05T02:00",
        "2018-11-06T02:00",
    ]


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        (
            "0 0 L * *",
            'failed to parse int from L: strconv.Atoi: parsing "L": invalid syntax',
        ),
        ("@never", "unrecognized descriptor: @never"),
        (
            "@every 5d",
            'failed to parse duration @every 5d: time: unknown unit "d" in duration "5d"',
        ),
        ("TZ=No/Where 0 * * * *", "provided bad location No/Where: unknown time zone No/Where"),
    ],
)
def test_what_means_nothing_is_refused_in_upstreams_words(schedule: str, why: str):
    with pytest.raises(ScheduleError) as caught:
        parse(schedule)
    assert str(caught.value) == why


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/7", "10-20/3", "59", "1,31"]),
    st.sampled_from(["*", "2", "*/5", "0,1,2,3", "22-23"]),
    st.sampled_from(["*", "?", "1", "*/10", "28-31"]),
    st.sampled_from(["*", "3,11", "*/2"]),
    st.sampled_from(["*", "0", "1-5", "*/3"]),
)


@given(
    FIELDS,
    st.integers(1_740_000_000, 1_800_000_000),
    st.sampled_from(["", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
)
def test_the_next_time_is_the_first_that_matches(fields: tuple[str, ...], start: int, zone: str):
    """Against every minute looked at one by one."""
    schedule = parse(" ".join(fields), zone)
    where = ZoneInfo(zone) if zone else UTC
    minute = datetime.fromtimestamp(start // 60 * 60 + 60, UTC)
    for _ in range(3 * 1440):
        local = minute.astimezone(where)
        by_month = local.day in schedule.days
        by_week = local.isoweekday() % 7 in schedule.weekdays
        is_open = fields[2] in ("*", "?") or fields[4] == "*"
        matches = (
            local.minute in schedule.minutes
            and local.hour in schedule.hours
            and local.month in schedule.months
            and (by_month and by_week if is_open else by_month or by_week)
        )
        if matches:
            assert schedule.next_after(start) == minute.timestamp()
            return
        minute += timedelta(minutes=1)
    found = schedule.next_after(start)
    assert found is None or found >= minute.timestamp()
