"""When schedules are due, by clocks of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runwait.crons.schedule import (
    LONGEST_SCHEDULE,
    InvalidSchedule,
    Schedule,
    UnknownTimezone,
    schedule_of,
    timezone_of,
)


def at(text: str) -> datetime:
    """A time in UTC, unless it says otherwise."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def after(
    schedule: str,
    start: str,
    number: int = 3,
    zone: str | None = None,
    form: str = "%m-%d %H:%M:%S",
) -> list[str]:
    """The next times, as the clock on the wall of the zone shows them."""
    found, time = [], at(start)
    for _ in range(number):
        following = schedule_of(schedule, zone).after(time)
        assert following is not None
        assert following > time
        time = following
        found.append(time.astimezone(timezone_of(zone)).strftime(form))
    return found


# 2026-01-01 is a Thursday.
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("*/15 * * * *", ["01-01 00:15:00", "01-01 00:30:00", "01-01 00:45:00"]),
        ("5/20 3 * * *", ["01-01 03:05:00", "01-01 03:25:00", "01-01 03:45:00"]),
        ("0 9-11,17 * * *", ["01-01 09:00:00", "01-01 10:00:00", "01-01 11:00:00"]),
        ("30 6 * * mon-wed", ["01-05 06:30:00", "01-06 06:30:00", "01-07 06:30:00"]),
        ("0 0 1 FEB,apr *", ["02-01 00:00:00", "04-01 00:00:00", "02-01 00:00:00"]),
        ("0 0 * * 7", ["01-04 00:00:00", "01-11 00:00:00", "01-18 00:00:00"]),
        ("0 0 * * 0", ["01-04 00:00:00", "01-11 00:00:00", "01-18 00:00:00"]),
        ("0 0 * * 5-7", ["01-02 00:00:00", "01-03 00:00:00", "01-04 00:00:00"]),
        ("0 0 L * *", ["01-31 00:00:00", "02-28 00:00:00", "03-31 00:00:00"]),
        ("0 0 * * L5", ["01-30 00:00:00", "02-27 00:00:00", "03-27 00:00:00"]),
        ("0 0 * * 5L", ["01-30 00:00:00", "02-27 00:00:00", "03-27 00:00:00"]),
        ("0 0 * * 5#2", ["01-09 00:00:00", "02-13 00:00:00", "03-13 00:00:00"]),
        ("0 0 * * fri#2", ["01-09 00:00:00", "02-13 00:00:00", "03-13 00:00:00"]),
        ("* * * * * 20/20", ["01-01 00:00:20", "01-01 00:00:40", "01-01 00:01:20"]),
        ("0 12 * * * 30", ["01-01 12:00:30", "01-02 12:00:30", "01-03 12:00:30"]),
        ("@hourly", ["01-01 01:00:00", "01-01 02:00:00", "01-01 03:00:00"]),
        ("@daily", ["01-02 00:00:00", "01-03 00:00:00", "01-04 00:00:00"]),
        ("@midnight", ["01-02 00:00:00", "01-03 00:00:00", "01-04 00:00:00"]),
        ("@Weekly", ["01-04 00:00:00", "01-11 00:00:00", "01-18 00:00:00"]),
        ("@monthly", ["02-01 00:00:00", "03-01 00:00:00", "04-01 00:00:00"]),
        ("@yearly", ["01-01 00:00:00"] * 3),
        ("@annually", ["01-01 00:00:00"] * 3),
        ("0 0 29 2 *", ["02-29 00:00:00"] * 3),
        # Day and weekday are both given: either will do.
        ("0 0 3 * MON", ["01-03 00:00:00", "01-05 00:00:00", "01-12 00:00:00"]),
        ("0 0 */10 * MON", ["01-05 00:00:00", "01-11 00:00:00", "01-12 00:00:00"]),
        ("0 0 3 * */6", ["01-03 00:00:00", "01-04 00:00:00", "01-10 00:00:00"]),
        # One of them is every day: the other one counts.
        ("0 0 */1 * MON", ["01-05 00:00:00", "01-12 00:00:00", "01-19 00:00:00"]),
    ],
)
def test_is_due_when_its_fields_say(schedule: str, expected: list[str]) -> None:
    assert after(schedule, "2026-01-01T00:00") == expected


@pytest.mark.parametrize(
    ("schedule", "start", "zone", "expected"),
    [
        # The clock goes from 2 to 3: what it skips is due right after.
        ("30 2 * * *", "2026-03-28T12:00", "Europe/Berlin", ["29 03:00+0200", "30 02:30+0200"]),
        ("30 2 * * * 10", "2026-03-28T12:00", "Europe/Berlin", ["29 03:00+0200", "30 02:30+0200"]),
        ("0 */2 * * *", "2026-03-29T00:30", "Europe/Berlin", ["29 03:00+0200", "29 04:00+0200"]),
        # Once, however much of it there was.
        ("*/20 2 * * *", "2026-03-28T12:00", "Europe/Berlin", ["29 03:00+0200", "30 02:00+0200"]),
        ("30 2,3 * * *", "2026-03-28T12:00", "Europe/Berlin", ["29 03:00+0200", "29 03:30+0200"]),
        ("30 2 * 3 0L 0", "2026-01-01T00:00", "Europe/Berlin", ["29 03:00+0200", "28 03:00+0200"]),
        # Where all hours are meant, there is nothing to be skipped, nor to be repeated.
        ("30 * * * *", "2026-03-29T00:00", "Europe/Berlin", ["29 01:30+0100", "29 03:30+0200"]),
        ("30 * * * *", "2026-10-25T00:00", "Europe/Berlin", ["25 02:30+0200", "25 02:30+0100"]),
        ("30 0-23 * * *", "2026-10-25T00:00", "Europe/Berlin", ["25 02:30+0200", "25 02:30+0100"]),
        # The clock goes from 3 back to 2: what it shows twice is due the first time.
        ("30 2 * * *", "2026-10-24T12:00", "Europe/Berlin", ["25 02:30+0200", "26 02:30+0100"]),
        ("30 2 * * *", "2026-10-25T01:10", "Europe/Berlin", ["26 02:30+0100", "27 02:30+0100"]),
        ("0 9 * * 1-5", "2026-03-06T20:00", "America/New_York", ["09 09:00-0400", "10 09:00-0400"]),
        # By half an hour; and a whole day that there never was.
        (
            "15 2 * * *",
            "2026-10-03T00:00",
            "Australia/Lord_Howe",
            ["04 02:30+1100", "05 02:15+1100"],
        ),
        ("0 12 30 12 *", "2011-12-01T00:00", "Pacific/Apia", ["31 00:00+1400", "30 12:00+1400"]),
    ],
)
def test_follows_the_clock_of_its_timezone(
    schedule: str, start: str, zone: str, expected: list[str]
) -> None:
    assert after(schedule, start, 2, zone, "%d %H:%M%z") == expected


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "@sometimes",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * * * 60",
        "*/0 * * * *",
        "9-5 * * * *",
        "1,, * * * *",
        "a b c d e",
        "0 0 * * 5#6",
        "0 0 * * ²L",
        "-1 * * * *",
        # Days that never come.
        "0 0 31 2 *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 30,31 2 */1",
        "* " * LONGEST_SCHEDULE,
    ],
)
def test_refuses_what_is_no_schedule_or_never_comes(schedule: str) -> None:
    with pytest.raises(InvalidSchedule):
        schedule_of(schedule)


@given(st.text("0123456789*/,-#LW@ \nMONJAN²", max_size=60))
def test_whatever_is_sent_is_a_schedule_or_refused(text: str) -> None:
    try:
        schedule = schedule_of(text)
    except InvalidSchedule:
        return
    assert schedule.after(at("2026-01-01T00:00")) is not None


A_DAY = timedelta(days=1)
FIELDS = [
    st.sampled_from(each)
    for each in (
        ["*", "0", "*/7", "5,50", "10-20/5"],
        ["*", "2", "*/5", "1,2,3", "0-3", "22-23"],
        ["*", "1", "L", "25-31", "*/9"],
        ["*", "3", "10", "3,10,11"],
        ["*", "0", "7", "MON-FRI", "0L", "0#1", "L0"],
        ["0", "30", "*/20"],
    )
]


@example("10-20/5 2 1 3,10,11 * 0", "Australia/Lord_Howe", datetime(2027, 10, 1, tzinfo=UTC), 7)
@given(
    st.tuples(*FIELDS).map(" ".join),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    st.integers(1, 8),
)
# When an hour comes twice: its second time, and the moment before that.
@example("0 * * * *", "Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC), 3)
@example("0 * * * *", "Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC), 2)
def test_what_was_missed_is_found_and_counted_as_it_would_have_come(
    text: str, zone: str, start: datetime, number: int
) -> None:
    schedule = Schedule(text, ZoneInfo(zone))
    times = [start]
    for _ in range(number):
        following = schedule.after(times[-1])
        assert following is not None
        times.append(following)
    assert all(earlier < later for earlier, later in pairwise(times))
    came = times[1:]
    # At its time, and as long as no other comes.
    assert schedule.latest(came[-1]) == came[-1]
    late = schedule.after(came[-1])
    assert late is not None
    assert schedule.latest(late - timedelta(seconds=1)) == came[-1]
    # As the wall shows them: but for those that it skipped.
    looked_at = [*came, *(each - A_DAY for each in came)]
    clocks = {each.astimezone(ZoneInfo(zone)).utcoffset() for each in looked_at}
    if len(clocks) == 1:
        assert schedule.count(came[0], came[-1]) == number - 1


@pytest.mark.parametrize(
    "name",
    ["Nowhere/Here", "europe/berlin ", "", "../../etc/passwd", "localtime", "a" * 300, "Europe"],
)
def test_refuses_what_is_no_timezone(name: str) -> None:
    with pytest.raises(UnknownTimezone):
        timezone_of(name)
