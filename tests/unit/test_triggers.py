"""A trigger merges its expressions, and answers about any span of time without walking through it."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from leaderjob.errors import InvalidSchedule
from leaderjob.scheduling.triggers import COUNT_LIMIT, Fires, Trigger, parse_schedule

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def schedule(*expressions: str, time_zone: str = "UTC") -> Trigger:
    return parse_schedule(expressions, job="x", time_zone=time_zone)


def next_fires(trigger: Trigger, after: datetime, count: int) -> list[str]:
    found = []
    for _ in range(count):
        fire = trigger.next_after(after)
        assert fire is not None
        assert fire.tzinfo is UTC
        found.append(fire.strftime("%d %H:%M:%S"))
        after = fire
    return found


def test_without_expressions_it_never_fires() -> None:
    never = schedule()
    assert never.next_after(NOON) is None
    assert never.latest(NOON) is None
    assert never.between(NOON - timedelta(days=900), NOON) == Fires(None, None, 0, True)


def test_an_interval_is_anchored_to_the_epoch_whenever_it_is_asked() -> None:
    week = schedule("every 7d")
    expected = at("2026-03-05T00:00:00Z")  # a Thursday, as the first of January 1970
    assert week.next_after(NOON) == week.next_after(NOON + 3 * SECOND) == expected


@pytest.mark.parametrize(
    ("expression", "fires"),
    [
        ("every 90s", ["01 12:01:30", "01 12:03:00"]),
        ("every 1h30m", ["01 13:30:00", "01 15:00:00"]),
        ("Every  90m", ["01 13:30:00", "01 15:00:00"]),
        ("every 3600", ["01 13:00:00", "01 14:00:00"]),
    ],
)
def test_an_interval_is_written_as_a_duration(expression: str, fires: list[str]) -> None:
    assert next_fires(schedule(expression), NOON, 2) == fires


def test_a_span_excludes_its_start_and_includes_its_end() -> None:
    for trigger in (schedule("every 1m"), schedule("* * * * *"), schedule("every 1m", "* * * * *")):
        fires = trigger.between(NOON, NOON + timedelta(minutes=3))
        assert fires == Fires(NOON + timedelta(minutes=1), NOON + timedelta(minutes=3), 3, True)
        assert trigger.between(NOON, NOON) == Fires()
        assert trigger.between(NOON, NOON - timedelta(hours=1)) == Fires()
        assert trigger.next_after(NOON) == NOON + timedelta(minutes=1)
        assert trigger.next_after(NOON - timedelta(microseconds=1)) == NOON
        assert trigger.latest(NOON) == NOON
        assert trigger.latest(NOON - timedelta(microseconds=1)) == NOON - timedelta(minutes=1)


def test_one_instant_fires_once() -> None:
    moment = schedule("2026-03-01T13:00:00+01:00")
    assert moment.next_after(NOON - SECOND) == NOON
    assert moment.next_after(NOON) is None
    assert moment.latest(NOON - SECOND) is None
    assert moment.between(NOON - SECOND, NOON) == Fires(NOON, NOON, 1, True)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-07-01T12:00", "2026-07-01T12:00+02:00"),
        ("2026-07-01 12:00:30", "2026-07-01T12:00:30+02:00"),
        ("2026-07-01", "2026-07-01T00:00+02:00"),
        ("2026-07-01T12:00Z", "2026-07-01T12:00+00:00"),
        ("2026-10-25T02:30", "2026-10-25T02:30+02:00"),  # comes twice: the first time
    ],
)
def test_an_instant_without_offset_is_a_wall_time_of_the_zone(text: str, instant: str) -> None:
    assert schedule(text, time_zone="Europe/Berlin").next_after(at("2026-01-01T00:00Z")) == at(instant)


def test_expressions_are_merged_and_equal_instants_fire_once() -> None:
    trigger = schedule("every 15m", "*/10 * * * *", "2026-03-01T12:07:00Z", "*/10 * * * *")
    assert next_fires(trigger, NOON, 6) == [
        "01 12:07:00",
        "01 12:10:00",
        "01 12:15:00",
        "01 12:20:00",
        "01 12:30:00",
        "01 12:40:00",
    ]
    fires = trigger.between(NOON, NOON + timedelta(minutes=44))
    assert fires == Fires(NOON + timedelta(minutes=7), NOON + timedelta(minutes=40), 6, True)


def test_crontabs_are_read_in_the_time_zone() -> None:
    daily = schedule("30 8 * * *", time_zone="America/New_York")
    assert daily.next_after(at("2026-01-15T00:00Z")) == at("2026-01-15T13:30Z")
    assert daily.next_after(at("2026-07-15T00:00Z")) == at("2026-07-15T12:30Z")


def test_an_interval_of_a_second_over_ten_years_is_arithmetic() -> None:
    began = time.process_time()
    fires = schedule("every 1s").between(NOON - timedelta(days=3650), NOON)
    assert time.process_time() - began < 0.05
    assert fires == Fires(NOON - timedelta(days=3650) + SECOND, NOON, 3650 * 86400, True)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("also", [(), ("every 1s",)])
def test_a_crontab_of_every_minute_over_two_years_is_counted_up_to_the_limit(
    zone: str, also: tuple[str, ...]
) -> None:
    trigger = schedule("* * * * *", *also, time_zone=zone)
    began = time.process_time()
    fires = trigger.between(NOON - timedelta(days=730), NOON)
    assert time.process_time() - began < 2.0  # a tenth of that; walking all of it takes several times as long
    first = NOON - timedelta(days=730) + (SECOND if also else 60 * SECOND)
    assert fires == Fires(first, NOON, COUNT_LIMIT, False)


def test_a_count_at_the_limit_is_exact_and_above_it_is_not() -> None:
    minutely = schedule("* * * * *")
    assert minutely.between(NOON, NOON + timedelta(minutes=5), limit=5).exact
    beyond = minutely.between(NOON, NOON + timedelta(minutes=6), limit=5)
    assert (beyond.count, beyond.exact) == (5, False)
    assert beyond.last == NOON + timedelta(minutes=6)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("every 500ms", "'500ms' is not an interval: use whole seconds, from 1s to 3650d"),
        ("every 1.5s", "'1.5s' is not an interval"),
        ("every 0s", "'0s' is not an interval"),
        ("every 9999d", "'9999d' is not an interval"),
        ("every 99999999d", "'99999999d' is not a duration"),
        ("every 1h 30m", "'1h 30m' is not a duration"),
        ("every -5s", "'-5s' is not a duration"),
        ("every now and then", "'now and then' is not a duration"),
        ("hourly", "it is neither a crontab of five fields, nor a nickname"),
        ("", "it is neither a crontab of five fields, nor a nickname"),
        ("2026-02-30T00:00", "it is not an ISO 8601 instant"),
        ("2026-03-01T00:00:00.5", "fires are whole seconds"),
        ("2026-03-29T02:30", "the clock of Europe/Berlin skips that time"),
    ],
)
def test_an_error_shows_the_expression_and_the_job(expression: str, problem: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        schedule("@daily", expression, time_zone="Europe/Berlin")
    assert str(caught.value).startswith(f"schedule {expression!r} of job 'x': {problem}")


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("../../etc/passwd", "use a name of the IANA database"),
        ("Europe", "it is a region; add the city, such as 'Europe/"),
        ("", "use a name of the IANA database"),
    ],
)
def test_an_unknown_time_zone_is_an_error_that_names_the_nearest(zone: str, hint: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        schedule("@daily", time_zone=zone)
    assert str(caught.value).startswith(f"schedule of job 'x': time zone {zone!r} is unknown: ")
    assert hint in str(caught.value)
