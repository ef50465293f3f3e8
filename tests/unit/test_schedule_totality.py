"""Any text is a trigger or an error of ours; and what was accepted answers for every instant that there is."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderjob.durations import LONGEST_S, parse_duration_s
from leaderjob.errors import InvalidDuration, InvalidSchedule
from leaderjob.model.fire import Fire
from leaderjob.model.job import Timetable
from leaderjob.scheduling.alarm import Alarm
from leaderjob.scheduling.triggers import (
    FIRST,
    LAST,
    MAX_EXPRESSION_CHARS,
    MAX_EXPRESSIONS,
    Trigger,
    parse_schedule,
)

SECOND = timedelta(seconds=1)
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia"),
    *("Pacific/Kiritimati", "Etc/GMT+12", "Etc/GMT-14", "America/St_Johns", "Asia/Kathmandu"),
)
EDGES = (datetime.min, datetime.max)  # noqa: DTZ901 - each test gives them a zone
EXTREMES = (
    "0001-01-01",
    "0001-01-03",
    "0001-12-31T23:59:59",
    "9998-12-31",
    "9999-12-29",
    "9999-12-31T23:59:59",
)


def of_parts(*parts: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), max_size=12).map("".join)


def fields() -> st.SearchStrategy[str]:
    term = of_parts(
        "*",
        "H",
        "?",
        "L",
        "W",
        "#",
        "/",
        "-",
        ",",
        "0",
        "1",
        "5",
        "28",
        "29",
        "31",
        "59",
        "mon",
        "SUN",
        "jan",
    )
    return st.lists(st.sampled_from(["*", "0", "*/7", "29", "2", "1-5", "H"]) | term, max_size=8).map(
        " ".join
    )


def expressions() -> st.SearchStrategy[str]:
    unit = st.sampled_from(["", "s", "m", "h", "d", "ms", "w", " days"])
    period = st.integers(0, 10**30).map(str) | st.sampled_from(["0.5", "9" * 400, "1e9", "inf", "nan", "-1"])
    every = st.tuples(st.sampled_from(["every ", "@every ", "rate(", "PT"]), period, unit).map("".join)
    offset = st.sampled_from(["", "Z", "+00:00", "+23:59", "-23:59", "+00:00:00.5", "+99:99"])
    date = st.sampled_from(EXTREMES) | st.datetimes().map(datetime.isoformat)
    prefixed = st.tuples(st.sampled_from(["", "CRON_TZ=Asia/Tokyo ", "TZ=: ", "@"]), fields()).map("".join)
    return st.text() | prefixed | every | st.tuples(date, offset).map("".join)


def instants() -> st.SearchStrategy[datetime]:
    offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)
    zones: st.SearchStrategy[tzinfo] = offsets | st.just(UTC)
    return st.datetimes(timezones=zones) | st.sampled_from(EDGES).flatmap(
        lambda edge: zones.map(lambda zone: edge.replace(tzinfo=zone))
    )


def parsed(expression: str, zone: str) -> Trigger | None:
    try:
        return parse_schedule([expression], job="x", time_zone=zone)
    except InvalidSchedule as error:
        str(error).encode()  # it can be written to a log, and to etcd
        return None


def check(trigger: Trigger, one: datetime, other: datetime) -> None:
    after, until = sorted((one, other))
    following, latest = trigger.next_after(after), trigger.latest(until)
    assert following is None or (following > after and FIRST <= following <= LAST)
    assert latest is None or (latest <= until and FIRST <= latest <= LAST)
    fires = trigger.between(after, until, limit=5)
    is_any = following is not None and following <= until
    assert fires.first == (following if is_any else None)
    assert fires.last == (latest if is_any else None)
    assert is_any or not fires.count


@settings(deadline=None, max_examples=150, database=None)
@given(expressions(), st.sampled_from(ZONES), instants(), instants())
def test_any_text_is_a_trigger_that_answers_for_any_instant_or_an_error_of_ours(
    expression: str, zone: str, one: datetime, other: datetime
) -> None:
    trigger = parsed(expression, zone)
    if trigger is not None:
        check(trigger, one, other)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "expression", ["* * * * *", "59 23 31 12 *", "*/7 5 * * 1", "every 1s", "every 3650d"]
)
def test_every_schedule_answers_at_both_ends_of_the_calendar(expression: str, zone: str) -> None:
    trigger = parsed(expression, zone)
    assert trigger is not None
    edges = [FIRST, LAST]
    for edge in EDGES:
        edges += [edge.replace(tzinfo=timezone(timedelta(hours=hours))) for hours in (-23, 0, 23)]
    near = [
        edge + step
        for edge in (FIRST, LAST)
        for step in (-SECOND, SECOND, -timedelta(days=1), timedelta(days=1))
    ]
    for one in edges + near:
        for other in edges:
            check(trigger, one, other)
    assert trigger.next_after(LAST) is None
    assert trigger.latest(FIRST - SECOND) is None


@settings(deadline=None, max_examples=60, database=None)
@given(
    st.text()
    | of_parts("Europe", "/", "Berlin", "right", "..", "GMT", "+", "2", "\0", "\udc80", " ", "posix", "Etc")
)
def test_any_text_is_a_time_zone_or_an_error_of_ours(zone: str) -> None:
    trigger = parsed("0 3 * * *", zone)
    assert trigger is None or trigger.next_after(datetime(2030, 1, 1, tzinfo=UTC)) is not None


@pytest.mark.parametrize(
    "expression",
    [
        "9999-12-31T23:59:59",
        "0001-01-01",
        "0001-01-01T00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9999-12-29T00:00:01Z",
    ],
)
def test_an_instant_that_some_zone_cannot_express_is_out_of_range_in_every_zone(expression: str) -> None:
    for zone in ZONES:
        with pytest.raises(InvalidSchedule, match="instants are from 0001-01-03 to 9999-12-29"):
            parse_schedule([expression], job="x", time_zone=zone)


@pytest.mark.parametrize(
    "expression",
    [
        f"every {'9' * 21}d",
        f"every {'9' * 400}s",
        f"{'1' * 490} * * * *",
        f"0 0 {'1' * 480}#1 * *",
        "0 0 * * \0",
        "\udc80 * * * *",
        "\udc80",
        "٣ ٣ * * *",
        "every ٣s",
        "٢٠٣٠-٠١-٠١",
        "(" * 500,
        "2030-01-01T00:00+01:00:00.5",
    ],
)
def test_odd_text_is_refused_in_a_sentence(expression: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        parse_schedule([expression], job="x")
    assert len(str(caught.value)) < 2000
    str(caught.value).encode()


@pytest.mark.parametrize("text", ["x" * 100_000, "9" * 100_000, f"0 {'0,' * 50_000} * * *", "@" * 10**6])
def test_a_long_expression_is_refused_unread_and_shown_in_part(text: str) -> None:
    with pytest.raises(InvalidSchedule, match=f"at most {MAX_EXPRESSION_CHARS} are allowed") as caught:
        parse_schedule([text], job="x")
    assert len(str(caught.value)) < 300


def test_a_job_has_a_limited_number_of_expressions() -> None:
    assert parse_schedule(["* * * * *"] * MAX_EXPRESSIONS, job="x").rules
    with pytest.raises(InvalidSchedule, match="it has 85000 expressions, and at most 100 are allowed"):
        parse_schedule(["* * * * *"] * 85_000, job="x")


def test_the_longest_sensible_crontab_fits() -> None:
    def all_of(values: range) -> str:
        return ",".join(map(str, values))

    months = "jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec"
    days = "sun,mon,tue,wed,thu,fri,sat"
    everything = f"{all_of(range(60))} {all_of(range(24))} {all_of(range(1, 32))} {months} {days}"
    trigger = parse_schedule([everything], job="x")
    assert trigger.next_after(datetime(2030, 1, 1, tzinfo=UTC)) == datetime(2030, 1, 1, 0, 1, tzinfo=UTC)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: 10**5000,
        lambda: -(10**5000),
        lambda: float("nan"),
        lambda: float("inf"),
        lambda: LONGEST_S + 1,
        lambda: "9" * 400,
        lambda: "9" * 100_000 + "d",
        lambda: f"{LONGEST_S + 1}s",
        lambda: "٣s",
        lambda: "\udc80",
        lambda: nested(100_000),
        lambda: None,
        lambda: {},
    ],
)
def test_odd_durations_are_refused_in_a_sentence(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidDuration, match="is not a duration") as caught:
        parse_duration_s(make())
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


@settings(database=None)
@given(st.text() | of_parts("1", "99", ".", "ms", "s", "m", "h", "d", " ", "-") | st.floats() | st.integers())
def test_any_duration_is_usable_in_date_arithmetic_or_refused(text: str | float) -> None:
    try:
        seconds = parse_duration_s(text)
    except InvalidDuration:
        return
    assert datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds) <= datetime(2130, 1, 1, tzinfo=UTC)


def test_a_far_fire_is_looked_for_once_and_not_at_each_change_of_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []

    def counted(*arguments: Any, **options: Any) -> CronSim:
        begun.append(arguments)
        return CronSim(*arguments, **options)

    trigger = parse_schedule(["* * 29 2 */7"], job="x", time_zone="Europe/Berlin")
    monkeypatch.setattr("leaderjob.scheduling.crontab.CronSim", counted)
    assert trigger.next_after(datetime(2033, 1, 1, tzinfo=UTC)) == datetime(2060, 2, 28, 23, tzinfo=UTC)
    assert trigger.latest(datetime(2059, 1, 1, tzinfo=UTC)) == datetime(2032, 2, 29, 22, 59, tzinfo=UTC)
    assert len(begun) == 2


async def test_the_first_and_the_last_fire_can_be_waited_for_and_stored() -> None:
    async with Alarm() as alarm:
        alarm.set("late", LAST)
        alarm.set("early", FIRST)
        assert await alarm.fires.get() == Fire("early", FIRST)
        alarm.clear("late")
    for edge in (FIRST, LAST):
        timetable = Timetable(watermark=edge, next_fire=edge)
        assert Timetable.from_bytes(timetable.to_bytes()) == timetable
