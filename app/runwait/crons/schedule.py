"""Schedules: when a cron is due (docs/crons.md says what they mean)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

LONGEST_SCHEDULE = 1000

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SECOND = timedelta(seconds=1)
# By no clock change does an hour come twice at a larger distance.
_REPEATED = timedelta(hours=3)
# What means another time on each machine.
_NO_TIMEZONES = ("localtime", "posixrules", "Factory")


class InvalidSchedule(Exception):
    """The schedule is none, or no time ever comes that it names; the text says what is wrong."""


class UnknownTimezone(Exception):
    """There is no timezone of this name."""


@lru_cache(maxsize=256)
def timezone_of(name: str | None) -> tzinfo:
    """The timezone with an IANA name; UTC without one.

    Raises:
        UnknownTimezone: there is none.
    """
    if name is None:
        return UTC
    try:
        if name not in _NO_TIMEZONES:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise UnknownTimezone("must be the name of a timezone, such as Europe/Berlin")


@lru_cache(maxsize=1024)
def schedule_of(text: str, timezone: str | None = None) -> Schedule:
    """The schedule that a text names in a timezone; UTC without one.

    Raises:
        InvalidSchedule: it names none, or no time that ever comes.
        UnknownTimezone: there is no such timezone.
    """
    schedule = Schedule(text, timezone_of(timezone))
    if schedule.after(datetime.now(UTC)) is None:
        raise InvalidSchedule("names a day that never comes")
    return schedule


class Schedule:
    """The times that a cron expression names in a timezone. All times come and go in UTC.

    Where the hours are all hours, time goes on as it passes: a change of clocks leaves out nothing
    and repeats nothing. Otherwise it is the clock on the wall that counts: a time that it skips
    comes right after the gap, and one that it shows twice comes the first time.
    """

    def __init__(self, text: str, zone: tzinfo) -> None:
        """Read it.

        Raises:
            InvalidSchedule: it is none.
        """
        self._zone = zone
        self._expression = _expression(text)
        try:
            self._fields = CronSim(self._expression, datetime(2000, 1, 1))
        except (CronSimError, AssertionError) as error:
            raise InvalidSchedule(_reason(error)) from None
        # By the wall, CronSim is given times without a timezone.
        self._by_wall = len(self._fields.hours) < 24

    def after(self, time: datetime) -> datetime | None:
        """The first time after this one; None if none ever comes."""
        if not self._by_wall:
            return _utc(next(self._from(time.astimezone(self._zone)), None))
        for wall in self._from(time.astimezone(self._zone).replace(tzinfo=None)):
            # One that is shown twice may have been before.
            if (real := self._real(wall)) > time:
                return real
        return None

    def latest(self, time: datetime) -> datetime | None:
        """The last time up to this one, itself included; None if there was none for 50 years."""
        local = time.astimezone(self._zone)
        if not self._by_wall:
            # In UTC: what is added on the wall forgets which of two like hours it is.
            start = (time + _SECOND).astimezone(self._zone)
            return _utc(next(self._from(start, reverse=True), None))
        start = local.replace(tzinfo=None) + (_REPEATED if local.fold else _SECOND)
        for wall in self._from(start, reverse=True):
            if (real := self._real(wall)) <= time:
                return real
        return None

    def count(self, first: datetime, last: datetime) -> int:
        """How many times there are from one of them to before another, as the wall shows them."""
        start, end = (each.astimezone(self._zone).replace(tzinfo=None) for each in (first, last))
        days = (end.date() - start.date()).days
        whole = sum(self._has(start.date() + timedelta(days)) for days in range(days))
        times = (
            whole * len(self._fields.hours) * len(self._fields.minutes) * len(self._fields.seconds)
        )
        # Before the second, so that of a day each time is counted once.
        return times + self._before(end) - self._before(start)

    def _from(self, start: datetime, *, reverse: bool = False) -> CronSim:
        # In whole seconds, so that backwards it begins before them.
        return CronSim(self._expression, start.replace(microsecond=0), reverse=reverse)

    def _real(self, wall: datetime) -> datetime:
        """When the clock on the wall shows a time first; if it skips it, right after the gap."""
        real = wall.replace(tzinfo=self._zone).astimezone(UTC)
        while real.astimezone(self._zone).replace(tzinfo=None) != wall:
            wall = wall.replace(second=0) + timedelta(minutes=1)
            real = wall.replace(tzinfo=self._zone).astimezone(UTC)
        return real

    def _has(self, day: date) -> bool:
        return day.month in self._fields.months and self._fields.match_day(day)

    def _before(self, time: datetime) -> int:
        """How many times there are on a day before a time of it."""
        if not self._has(time.date()):
            return 0
        fields = self._fields
        hours = sum(each < time.hour for each in fields.hours)
        found = hours * len(fields.minutes) * len(fields.seconds)
        if time.hour in fields.hours:
            found += sum(each < time.minute for each in fields.minutes) * len(fields.seconds)
            if time.minute in fields.minutes:
                found += sum(each < time.second for each in fields.seconds)
        return found


def _expression(text: str) -> str:
    """A schedule as CronSim takes it: six fields, seconds first."""
    if len(text) > LONGEST_SCHEDULE:
        raise InvalidSchedule(f"must have at most {LONGEST_SCHEDULE} characters")
    fields = _ALIASES.get(text.strip().lower(), text).upper().split()
    if len(fields) not in (5, 6):
        raise InvalidSchedule(
            "must be minute, hour, day, month and weekday, and perhaps seconds, or one of: "
            + ", ".join(_ALIASES)
        )
    minute, hour, day, month, weekday, *seconds = fields
    # CronSim takes a star at the front for a field that is not given: then both must match.
    day = re.sub(r"(?<![^,])\*(?=/(?!1(?!\d)))", "1-31", day)
    weekday = re.sub(r"(?<![^,])\*(?=/(?!1(?!\d)))", "0-6", weekday)
    weekday = re.sub(r"(?<![^,])L([0-7])(?![^,])", r"\1L", weekday)
    return " ".join((*(seconds or ["0"]), minute, hour, day, month, weekday))


def _reason(error: Exception) -> str:
    """What is wrong, as CronSim says it: the field."""
    text = str(error)
    return f"has a wrong {text[4:]}" if text.startswith("Bad ") else "is no schedule"


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)
