"""Crontab expressions fire as Debian's cron would start them, minute by minute, in any time zone.

The oracle is a cron daemon of our own, in the plainest form: it looks at each real minute. It follows
cron(8): one look at the wall clock decides for expressions with a wildcard, and a virtual clock, which
catches up where time is skipped and waits where it is repeated, decides for those without.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderjob.errors import InvalidSchedule
from leaderjob.scheduling.crontab import parse_crontab
from leaderjob.scheduling.triggers import parse_schedule

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)

# Clocks that are set by an hour at night, by half an hour, at midnight, twice within weeks, never.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/St_Johns",
    "America/Santiago",
    "Asia/Kolkata",
    "UTC",
)


@dataclass(frozen=True)
class Written:
    """A field as written, and what the author of the test says that it means."""

    text: str
    values: frozenset[int]

    @property
    def star(self) -> bool:
        return self.text.startswith("*")


def listed(written: tuple[Written, ...]) -> Written:
    values = frozenset[int]().union(*(term.values for term in written))
    return Written(",".join(term.text for term in written), values)


def terms(low: int, high: int) -> st.SearchStrategy[Written]:
    value = st.integers(low, high)
    step = st.integers(2, high - low)
    pair = st.tuples(value, value).map(sorted)
    return st.one_of(
        value.map(lambda v: Written(str(v), frozenset({v}))),
        pair.map(lambda p: Written(f"{p[0]}-{p[1]}", frozenset(range(p[0], p[1] + 1)))),
        st.tuples(pair, step).map(
            lambda t: Written(f"{t[0][0]}-{t[0][1]}/{t[1]}", frozenset(range(t[0][0], t[0][1] + 1, t[1])))
        ),
        step.map(lambda s: Written(f"*/{s}", frozenset(range(low, high + 1, s)))),
    )


def fields(low: int, high: int) -> st.SearchStrategy[Written]:
    star = st.just(Written("*", frozenset(range(low, high + 1))))
    return st.one_of(star, terms(low, high), st.tuples(terms(low, high), terms(low, high)).map(listed))


@dataclass(frozen=True)
class Expression:
    minute: Written
    hour: Written
    day: Written
    month: Written
    weekday: Written

    def __str__(self) -> str:
        return " ".join(f.text for f in (self.minute, self.hour, self.day, self.month, self.weekday))

    def matches(self, wall: datetime) -> bool:
        if wall.minute not in self.minute.values or wall.hour not in self.hour.values:
            return False
        if wall.month not in self.month.values:
            return False
        day = wall.day in self.day.values
        weekday = any(value % 7 == wall.isoweekday() % 7 for value in self.weekday.values)
        both = self.day.star or self.weekday.star
        return (day and weekday) if both else (day or weekday)

    def fires(self, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
        """The minutes in (after, until] at which the daemon starts the job. It booted a day earlier."""
        real_time = self.minute.star or self.hour.star
        minute = (after - DAY).replace(second=0, microsecond=0)
        virtual = minute.astimezone(zone).replace(tzinfo=None)
        found = []
        while minute <= until:
            wall = minute.astimezone(zone).replace(tzinfo=None)
            if real_time:
                starts = self.matches(wall)
            else:
                starts = False
                while virtual < wall:
                    virtual += MINUTE
                    starts = self.matches(virtual) or starts
            if starts and minute > after:
                found.append(minute)
            minute += MINUTE
        return found


def mostly(
    usual: st.SearchStrategy[Written], other: st.SearchStrategy[Written]
) -> st.SearchStrategy[Written]:
    """Three times out of four. `one_of` would count each alternative within the two."""
    return st.sampled_from((usual, usual, usual, other)).flatmap(lambda chosen: chosen)


def expressions() -> st.SearchStrategy[Expression]:
    """Mostly of the small hours of any day, which is when clocks are set."""
    any_month, any_day, any_weekday = (
        st.just(Written("*", frozenset(range(low, high + 1)))) for low, high in ((1, 12), (1, 31), (0, 7))
    )
    night = st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True).map(
        lambda hours: Written(",".join(map(str, hours)), frozenset(hours))
    )
    return st.builds(
        Expression,
        minute=fields(0, 59),
        hour=mostly(night, fields(0, 23)),
        day=mostly(any_day, fields(1, 31)),
        month=mostly(any_month, fields(1, 12)),
        weekday=mostly(any_weekday, fields(0, 7)),
    )


def changes(zone: ZoneInfo) -> Iterator[datetime]:
    """The hours in which the offset changes, found the slow way."""
    hour = datetime(2023, 1, 1, tzinfo=UTC)
    while hour.year < 2025:
        if hour.astimezone(zone).utcoffset() != (hour + HOUR).astimezone(zone).utcoffset():
            yield hour
        hour += HOUR


CHANGES = {name: list(changes(ZoneInfo(name))) for name in ZONES}


@st.composite
def spans(draw: st.DrawFn) -> tuple[str, datetime, datetime]:
    """A zone and a span of up to 40 hours, mostly one in which, or near which, the clock is set."""
    zone = draw(st.sampled_from(ZONES))
    days = [datetime(2015, 1, 1, tzinfo=UTC) + 197 * DAY * number for number in range(30)]
    near = draw(st.sampled_from([*CHANGES[zone] * 20, *days]))
    after = near + timedelta(seconds=draw(st.integers(-20 * 3600, 2 * 3600)))
    return zone, after, near + timedelta(seconds=draw(st.integers(2 * 3600, 20 * 3600)))


@settings(deadline=None, max_examples=200, database=None)
@given(expressions(), spans())
def test_fires_are_those_of_a_cron_daemon(
    expression: Expression, span: tuple[str, datetime, datetime]
) -> None:
    zone, after, until = span
    expected = expression.fires(ZoneInfo(zone), after, until)
    try:
        trigger = parse_schedule([str(expression)], job="x", time_zone=zone)
    except InvalidSchedule as error:
        assert "never fires" in str(error)
        assert not expected
        return
    crontab = parse_crontab(str(expression), job="x", zone=ZoneInfo(zone))
    forward = list(islice(crontab.after(after), len(expected) + 1))
    assert forward[: len(expected)] == expected
    assert all(fire > until for fire in forward[len(expected) :])
    # Backwards, from the same end: the same fires, and then one that is not later than the start.
    backward = list(islice(crontab.until(until), len(expected) + 1))
    assert backward[: len(expected)] == expected[::-1]
    assert all(fire <= after for fire in backward[len(expected) :])
    assert trigger.between(after, until).count == len(expected)
    # From any place in between, in either direction.
    place_between = after
    while (place_between := place_between + 23 * MINUTE) < until:
        later = bisect_right(expected, place_between)
        if later < len(expected):
            assert trigger.next_after(place_between) == expected[later]
        if later > 0:
            assert trigger.latest(place_between) == expected[later - 1]


def local_fires(expression: str, zone: str, first_day: str, count: int) -> list[str]:
    """The next fires from midnight of a day on, as wall times with their offset."""
    clock = ZoneInfo(zone)
    start = datetime.fromisoformat(first_day).replace(tzinfo=clock).astimezone(UTC) - timedelta(seconds=1)
    fires = islice(parse_crontab(expression, job="x", zone=clock).after(start), count)
    return [fire.astimezone(clock).strftime("%d %H:%M %z") for fire in fires]


def test_a_wall_time_in_a_gap_fires_right_after_it() -> None:
    assert local_fires("30 2 * * *", "Europe/Berlin", "2026-03-28", 3) == [
        "28 02:30 +0100",
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]


def test_several_wall_times_in_one_gap_fire_once() -> None:
    assert local_fires("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29", 3) == [
        "29 03:00 +0200",
        "29 03:30 +0200",
        "30 02:00 +0200",
    ]


def test_a_wall_time_that_comes_twice_fires_once() -> None:
    assert local_fires("30 2 * * *", "Europe/Berlin", "2026-10-25", 2) == ["25 02:30 +0200", "26 02:30 +0100"]


def test_a_wildcard_hour_follows_real_time() -> None:
    assert local_fires("30 * * * *", "Europe/Berlin", "2026-03-29", 4)[1:] == [
        "29 01:30 +0100",
        "29 03:30 +0200",
        "29 04:30 +0200",
    ]
    assert local_fires("30 * * * *", "Europe/Berlin", "2026-10-25", 4)[1:] == [
        "25 01:30 +0200",
        "25 02:30 +0200",
        "25 02:30 +0100",
    ]


def test_a_wildcard_fires_in_both_passes_of_an_hour_even_if_it_is_due_next_in_a_year() -> None:
    """Next year the clock is set on another day: the offset then is that of the first pass again."""
    assert local_fires("*/30 2 25 10 *", "Europe/Berlin", "2026-10-25", 5) == [
        "25 02:00 +0200",
        "25 02:30 +0200",
        "25 02:00 +0100",
        "25 02:30 +0100",
        "25 02:00 +0200",
    ]


def test_a_gap_of_half_an_hour_loses_no_later_fire() -> None:
    assert local_fires("*/20 3 * * *", "Australia/Lord_Howe", "2024-10-06", 3) == [
        "06 03:00 +1100",
        "06 03:20 +1100",
        "06 03:40 +1100",
    ]


def test_a_wildcard_does_not_fire_in_a_midnight_that_is_skipped() -> None:
    assert local_fires("*/30 0 * * *", "Africa/Cairo", "2024-04-25", 3) == [
        "25 00:00 +0200",
        "25 00:30 +0200",
        "27 00:00 +0300",
    ]


def test_the_latest_fire_in_the_second_pass_of_an_hour_belongs_to_the_first() -> None:
    crontab = parse_crontab("45 2 * * *", job="x", zone=ZoneInfo("Europe/Berlin"))
    second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert next(crontab.until(second_pass)) == datetime(2026, 10, 25, 0, 45, tzinfo=UTC)


def week(expression: str) -> list[str]:
    """The weekdays on which an expression fires at midnight."""
    fires = parse_crontab(expression, job="x", zone=UTC).after(datetime(2026, 2, 28, tzinfo=UTC))
    return [fire.strftime("%a") for fire in islice(fires, 7) if fire < datetime(2026, 3, 8, tzinfo=UTC)]


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "SUN", "7-7"])
def test_zero_and_seven_are_sunday(sunday: str) -> None:
    assert week(f"0 0 * * {sunday}") == ["Sun"]


def test_weekdays_count_from_sunday_and_have_names() -> None:
    assert week("0 0 * * 1-5") == week("0 0 * * mon-fri") == ["Mon", "Tue", "Wed", "Thu", "Fri"]


def days(expression: str, year: int) -> list[str]:
    fires = parse_crontab(expression, job="x", zone=UTC).after(datetime(year - 1, 12, 31, 23, 59, tzinfo=UTC))
    return [fire.strftime("%m-%d") for fire in islice(fires, 20) if fire.year == year]


def test_day_of_month_or_day_of_week_when_neither_begins_with_a_star() -> None:
    assert days("0 0 13 2 fri", 2026) == ["02-06", "02-13", "02-20", "02-27"]
    assert days("0 0 1,13 mar fri", 2026) == ["03-01", "03-06", "03-13", "03-20", "03-27"]


def test_day_of_month_and_day_of_week_when_one_begins_with_a_star() -> None:
    assert days("0 0 */2 2 fri", 2026) == ["02-13", "02-27"]
    sundays_and_fridays = "*/5"
    assert days(f"0 0 13 * {sundays_and_fridays}", 2026) == ["02-13", "03-13", "09-13", "11-13", "12-13"]


@pytest.mark.parametrize(
    ("nickname", "same"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_nicknames_are_those_of_cron(nickname: str, same: str) -> None:
    assert parse_crontab(nickname, job="x", zone=UTC) == parse_crontab(same, job="x", zone=UTC)


def minutes(expression: str, job: str) -> list[int]:
    """The minutes at which an expression fires in the hour after midnight."""
    fires = parse_crontab(expression, job=job, zone=UTC).after(NEW_YEAR - MINUTE)
    return [fire.minute for fire in islice(fires, 60) if fire < NEW_YEAR + HOUR]


JOBS = [f"job-{number}" for number in range(200)]


def test_h_spreads_jobs_over_the_hour_and_always_the_same_way() -> None:
    spread = [minutes("H * * * *", job) for job in JOBS]
    assert all(len(once) == 1 for once in spread)
    assert len({once[0] for once in spread}) > 45
    # These numbers are a promise: a job must not move when leaderjob is upgraded.
    assert [minutes("H * * * *", job)[0] for job in ("index", "report")] == [34, 31]


def test_h_with_a_step_keeps_the_step_and_spreads_the_offset() -> None:
    for job in JOBS:
        first, *others = minutes("H/15 * * * *", job)
        assert first < 15
        assert others == [first + 15, first + 30, first + 45]
    assert len({minutes("H/15 * * * *", job)[0] for job in JOBS}) == 15


def test_h_stays_within_its_range() -> None:
    assert {minutes("H(10-13) * * * *", job)[0] for job in JOBS} == {10, 11, 12, 13}


def test_h_picks_a_day_that_every_month_has() -> None:
    for job in JOBS:
        fires = list(islice(parse_crontab("0 0 H * *", job=job, zone=UTC).after(NEW_YEAR - MINUTE), 12))
        assert [fire.month for fire in fires] == list(range(1, 13))
        assert len({fire.day for fire in fires}) == 1


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("61 * * * *", "minute field '61' is not in 0-59"),
        ("5,61 * * * *", "minute field '5,61': '61' is not in 0-59"),
        ("0 24 * * *", "hour field '24' is not in 0-23"),
        ("0 0 0 * *", "day-of-month field '0' is not in 1-31"),
        ("0 0 * 13 *", "month field '13' is not in 1-12 or jan-dec"),
        ("0 0 * * 8", "day-of-week field '8' is not in 0-7 or sun-sat"),
        ("0 0 * * monday", "day-of-week field 'monday' is not in 0-7 or sun-sat"),
        ("0 0 L * *", "day-of-month field 'L' is not in 1-31"),
        ("0 0 * * mon#1", "day-of-week field 'mon#1' is not a number, a name, a range"),
        ("50-10 * * * *", "minute field '50-10' is a range that runs backwards: write 50-59,0-10"),
        ("5/15 * * * *", "minute field '5/15' has a step but no range to step through: write 5-59/15"),
        ("*/90 * * * *", "minute field '*/90': '/90' is not a step of 1-60"),
        ("*/0 * * * *", "minute field '*/0': '/0' is not a step of 1-60"),
        ("H(0-9)/15 * * * *", "minute field 'H(0-9)/15': '/15' is a step longer than the range 0-9"),
        ("5, * * * *", "minute field '5,': '' is not a number, a name, a range"),
        ("* * * *", "it has 4 fields: a crontab has five"),
        ("0 * * * * *", "it has 6 fields: a crontab has five"),
        ("0 0 30 2 *", "it never fires: day-of-month field '30' names no day of month field '2'"),
        ("0 0 31 4,6,9,11 *", "it never fires: day-of-month field '31'"),
        ("@reboot", "a cluster has no boot"),
        ("@dayly", "it is not one of @yearly, @annually, @monthly"),
    ],
)
def test_an_error_names_the_field_and_shows_the_expression(expression: str, problem: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        parse_schedule([expression], job="x")
    assert str(caught.value).startswith(f"schedule {expression!r} of job 'x': {problem}")


def test_a_leap_day_on_a_sunday_is_found_a_generation_ahead() -> None:
    crontab = parse_crontab("0 0 29 2 */7", job="x", zone=UTC)
    assert next(crontab.after(datetime(2026, 1, 1, tzinfo=UTC))) == datetime(2032, 2, 29, tzinfo=UTC)
    assert next(crontab.after(datetime(2032, 3, 1, tzinfo=UTC))) == datetime(2060, 2, 29, tzinfo=UTC)
