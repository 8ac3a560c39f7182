# SPDX-License-Identifier: Apache-2.0
"""Which start of a schedule is due, and when the next one is. Pure.

Starts that were missed are not made up for one by one: the last one counts. How many there were is
estimated from the distance of two of them, as upstream does.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kedge.api.cron import Interval, Schedule

MANY = 100
"""More missed starts than this are told to people."""
DELAY_SECONDS = 0.1
"""After a start is due, for clocks that are set meanwhile."""
STEPS = 10_000
"""The most starts looked at in one turn."""


class Missed(enum.Enum):
    """How many starts were missed."""

    NONE = 0
    FEW = 1
    MANY = 2


class NeverError(ValueError):
    """The schedule has no two starts."""


@dataclass(frozen=True, slots=True)
class Recent:
    """The last start that is due: None when there is none since ``earliest``."""

    earliest: float
    start: int | None
    missed: Missed


def recent(
    schedule: Schedule | Interval,
    earliest: float,
    now: float,
    deadline: int | None = None,
) -> Recent:
    """The last start between two moments.

    Args:
        schedule: the schedule.
        earliest: the last start that was taken, or when the CronJob was made.
        now: epoch seconds.
        deadline: how late a start may be; earlier ones are not looked for.

    Raises:
        NeverError: the schedule has no two starts.
    """
    if deadline is not None:
        earliest = max(earliest, now - deadline)
    first = schedule.next_after(earliest)
    second = schedule.next_after(first) if first is not None else None
    if first is not None and now < first:
        return Recent(earliest, None, Missed.NONE)
    if first is None or second is None or second - first < 1:
        raise NeverError("time difference between two schedules is less than 1 second")
    if now < second:
        return Recent(earliest, first, Missed.NONE)
    apart = second - first
    count = int(now - first) // apart + 1
    start, at = None, first + (count - 2) * apart
    for _ in range(STEPS):
        following = schedule.next_after(at)
        if following is None or following > now:
            break
        start = at = following
    return Recent(earliest, start, Missed.MANY if count > MANY else Missed.FEW)


def seconds_to_next(schedule: Schedule | Interval, earliest: float, now: float) -> float | None:
    """Seconds until the next start is due; None when there is none."""
    since = now
    try:
        last = recent(schedule, earliest, now)
    except NeverError:
        pass
    else:
        if last.start is not None:
            since = last.start
        elif last.missed is Missed.NONE:
            since = last.earliest
    following = schedule.next_after(since)
    return following + DELAY_SECONDS - now if following is not None else None
