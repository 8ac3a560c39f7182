# SPDX-License-Identifier: Apache-2.0
"""Cron schedules as Kubernetes reads them: five fields, or a descriptor such as ``@hourly``. Pure.

Kubernetes parses with robfig/cron, whose rules differ from those of other crons: Sunday is 0 and
never 7, there is no ``L`` or ``#``, day of month and day of week are alternatives unless one of them
is a bare ``*`` or ``?``, a time that a clock change leaves out does not come, and one that it
repeats comes twice. Complaints are in its words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

YEARS = 5
"""A schedule that has no time for so long never has one."""
LATEST = 250_000_000_000
"""Seconds since 1970 (the year 9892) after which nothing is scheduled."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.]*)", re.ASCII)
_UNITS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = "@every "


class ScheduleError(ValueError):
    """A schedule or time zone that means nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    low: int
    high: int
    names: dict[str, int]


_FIELDS = (
    _Bounds(0, 59, {}),
    _Bounds(0, 23, {}),
    _Bounds(1, 31, {}),
    _Bounds(1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Bounds(0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """``@every``: always the same number of seconds later."""

    seconds: int

    def next_after(self, moment: float) -> int | None:
        """The first time after a moment, both in seconds since 1970."""
        return int(moment) + self.seconds


@dataclass(frozen=True, slots=True)
class Schedule:
    """Five fields, in a time zone."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Whether a day of the month or of the week is enough; else both have to match."""
    zone: tzinfo

    def next_after(self, moment: float) -> int | None:
        """The first time after a moment, both in seconds since 1970; None when there is none."""
        if not 0 <= moment < LATEST:
            return None
        at = int(moment) + 1
        last_year = self._local(at).year + YEARS
        moved = False
        while True:
            local = self._local(at)
            if local.year > last_year:
                return None
            if local.month not in self.months:
                at, moved = self._next_month(local), True
            elif not self._day_matches(local):
                at, moved = self._next_day(local), True
            elif local.hour not in self.hours:
                start = at if moved else self._instant(local.replace(minute=0, second=0))
                at, moved = start + 3600, True
            elif local.minute not in self.minutes or local.second:
                at, moved = at - local.second + 60, True
            else:
                return at

    def _day_matches(self, local: datetime) -> bool:
        by_month = local.day in self.days
        by_week = local.isoweekday() % 7 in self.weekdays
        return by_month or by_week if self.either_day else by_month and by_week

    def _next_month(self, local: datetime) -> int:
        following = (local.replace(day=1) + timedelta(days=32)).replace(day=1)
        return self._instant(following.replace(hour=0, minute=0, second=0))

    def _next_day(self, local: datetime) -> int:
        at = self._instant(local.replace(hour=0, minute=0, second=0) + timedelta(days=1))
        hour = self._local(at).hour
        if hour == 0:
            return at
        return at + (24 - hour if hour > 12 else -hour) * 3600

    def _local(self, at: int) -> datetime:
        """The clock of the zone, without the zone."""
        return (_EPOCH + timedelta(seconds=at)).astimezone(self.zone).replace(tzinfo=None, fold=0)

    def _instant(self, local: datetime) -> int:
        """When a clock shows that; where a clock change leaves it out, as Go's ``time.Date``."""
        as_if = int((local.replace(tzinfo=UTC) - _EPOCH).total_seconds())
        offset = self._offset(as_if)
        if self._offset(as_if - offset) != offset:
            offset = self._offset(as_if - offset)
        return as_if - offset

    def _offset(self, at: int) -> int:
        offset = (_EPOCH + timedelta(seconds=at)).astimezone(self.zone).utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0


@lru_cache(maxsize=256)
def parse(text: str, zone: str = "") -> Schedule | Interval:
    """Reads a schedule.

    Args:
        text: the schedule; it may begin with ``TZ=`` or ``CRON_TZ=`` and a zone.
        zone: the time zone otherwise; empty is UTC.

    Raises:
        ScheduleError: it means nothing.
    """
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith(("TZ=", "CRON_TZ=")):
        prefix, _, text = text.partition(" ")
        zone, text = prefix.partition("=")[2], text.strip()
        try:
            where = location(zone)
        except ScheduleError as error:
            raise ScheduleError(f"provided bad location {zone}: {error}") from None
    else:
        where = location(zone)
    if text.startswith("@"):
        if text.startswith(_EVERY):
            return Interval(_every(text))
        if text not in _DESCRIPTORS:
            raise ScheduleError(f"unrecognized descriptor: {text}")
        text = _DESCRIPTORS[text]
    words = text.split()
    if len(words) != len(_FIELDS):
        listed = " ".join(words)
        raise ScheduleError(f"expected exactly 5 fields, found {len(words)}: [{listed}]")
    fields = [_field(word, bounds) for word, bounds in zip(words, _FIELDS, strict=True)]
    (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = fields
    return Schedule(minutes, hours, days, months, weekdays, not (any_day or any_weekday), where)


def location(name: str) -> tzinfo:
    """The time zone of that name; empty is UTC.

    Raises:
        ScheduleError: this machine knows none.
    """
    if name in ("", "UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"unknown time zone {name}") from None


def _field(word: str, bounds: _Bounds) -> tuple[frozenset[int], bool]:
    """The values of a field, and whether it is open to all."""
    values: set[int] = set()
    is_open = False
    for part in word.split(","):
        if part:
            more, star = _range(part, bounds)
            values.update(more)
            is_open |= star
    return frozenset(values), is_open


def _range(part: str, bounds: _Bounds) -> tuple[range, bool]:
    span, *steps = part.split("/")
    ends = span.split("-")
    star = ends[0] in ("*", "?")
    if star:
        low, high = bounds.low, bounds.high
    else:
        low = _value(ends[0], bounds.names)
        if len(ends) > 2:
            raise ScheduleError(f"too many hyphens: {part}")
        high = _value(ends[1], bounds.names) if len(ends) == 2 else low
    step = 1
    if len(steps) > 1:
        raise ScheduleError(f"too many slashes: {part}")
    if steps:
        step = _value(steps[0], {})
        high = bounds.high if len(ends) == 1 else high
        star = star and step <= 1
    if low < bounds.low:
        raise ScheduleError(f"beginning of range ({low}) below minimum ({bounds.low}): {part}")
    if high > bounds.high:
        raise ScheduleError(f"end of range ({high}) above maximum ({bounds.high}): {part}")
    if low > high:
        raise ScheduleError(f"beginning of range ({low}) beyond end of range ({high}): {part}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {part}")
    return range(low, high + 1, step), star


def _value(word: str, names: dict[str, int]) -> int:
    named = names.get(word.lower())
    if named is not None:
        return named
    why = "" if _NUMBER.fullmatch(word) else "invalid syntax"
    if not why and len(word) > 18:
        why = "value out of range"
    if why:
        text = f'failed to parse int from {word}: strconv.Atoi: parsing "{word}": {why}'
        raise ScheduleError(text)
    number = int(word)
    if number < 0:
        raise ScheduleError(f"negative number ({number}) not allowed: {word}")
    return number


def _every(text: str) -> int:
    """The whole seconds of ``@every``, one at least."""
    written = text.removeprefix(_EVERY)
    rest = written[1:] if written[:1] in ("+", "-") else written
    total, why = 0.0, "" if rest else f'invalid duration "{written}"'
    while rest and rest != "0" and not why:
        part = _DURATION_PART.match(rest)
        if part is None:
            why = f'invalid duration "{written}"'
        elif not part[2]:
            why = f'missing unit in duration "{written}"'
        elif part[2] not in _UNITS:
            why = f'unknown unit "{part[2]}" in duration "{written}"'
        else:
            total += float(part[1]) * _UNITS[part[2]]
            rest = rest[part.end() :]
    if not why and total > 2**63 / 1e9:
        why = f'invalid duration "{written}"'
    if why:
        raise ScheduleError(f"failed to parse duration {text}: time: {why}")
    return 1 if written.startswith("-") else max(int(total), 1)
