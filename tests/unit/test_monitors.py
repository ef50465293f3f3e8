"""A job's schedule as a monitor of Sentry."""

from typing import Any

import pytest

from leaderjob.engine.definition import Assignment
from leaderjob.monitors import monitors_of
from leaderjob.scheduling.triggers import parse_schedule
from tests.support.office import assigned


def monitored(*schedule: str, time_zone: str = "UTC", name: str = "j", **policy: Any) -> Any:
    found = assigned(name, *schedule)
    changed = found.spec.policy.model_copy(update=policy)
    spec = found.spec.model_copy(update={"time_zone": time_zone, "policy": changed})
    trigger = parse_schedule(schedule, job=name, time_zone=time_zone)
    return monitors_of([Assignment(spec, trigger)], "prod").get(name)


def schedule_of(*schedule: str) -> Any:
    monitor = monitored(*schedule)
    return None if monitor is None else monitor.config["schedule"]


def test_a_crontab_is_told_as_it_is_with_zone_and_tolerances_in_minutes() -> None:
    monitor = monitored(
        "*/15 8-17 * * MON-FRI", time_zone="Europe/Rome", misfire_grace_s=61.0, timeout_s=600.0
    )
    assert monitor.slug == "prod-j"
    assert monitor.config == {
        "schedule": {"type": "crontab", "value": "*/15 8-17 * * MON-FRI"},
        "timezone": "Europe/Rome",
        "checkin_margin": 2,
        "max_runtime": 11,
    }


@pytest.mark.parametrize(
    ("every", "value", "unit"),
    [("60s", 1, "minute"), ("90m", 90, "minute"), ("2h", 2, "hour"), ("48h", 2, "day"), ("7d", 7, "day")],
)
def test_an_interval_is_told_in_the_largest_unit_that_fits(every: str, value: int, unit: str) -> None:
    assert schedule_of(f"every {every}") == {"type": "interval", "value": value, "unit": unit}


def test_a_spread_hour_is_told_as_the_number_that_it_stands_for() -> None:
    told = schedule_of("H H/6 * * THU")["value"]
    minute, hours, *days = told.split()
    assert minute.isdecimal()
    assert all(hour.isdecimal() for hour in hours.split(","))
    assert days == ["*", "*", "THU"]
    assert parse_schedule([told], job="another") == parse_schedule(["H H/6 * * THU"], job="j")


@pytest.mark.parametrize(
    ("schedule", "value"),
    [
        ("@hourly", "0 * * * *"),
        ("5-20/5 */2 * * *", "5,10,15,20 */2 * * *"),
        ("5-5/2 3 * * *", "5 3 * * *"),
    ],
)
def test_nicknames_and_steps_are_told_in_words_that_everyone_reads_alike(schedule: str, value: str) -> None:
    assert schedule_of(schedule) == {"type": "crontab", "value": value}


@pytest.mark.parametrize(
    "schedule",
    [(), ("every 90s",), ("every 30s",), ("2030-01-31T04:00",), ("@daily", "@hourly")],
    ids=["none", "no whole minutes", "too often", "one instant", "several"],
)
def test_what_a_monitor_cannot_express_has_none(schedule: tuple[str, ...]) -> None:
    assert schedule_of(*schedule) is None


def test_tolerances_are_a_minute_at_least() -> None:
    config = monitored("@daily", misfire_grace_s=0.0, timeout_s=1.0).config
    assert (config["checkin_margin"], config["max_runtime"]) == (1, 2)


def test_tolerances_are_28_days_at_most() -> None:
    config = monitored("@daily", misfire_grace_s=1e9, timeout_s=1e300).config
    assert (config["checkin_margin"], config["max_runtime"]) == (28 * 24 * 60, 28 * 24 * 60)


def test_names_that_sentry_does_not_take_are_changed_and_stay_different() -> None:
    dotted, dashed = monitored("@daily", name="a.b"), monitored("@daily", name="a-b")
    long = monitored("@daily", name="x" * 100)
    other = monitored("@daily", name="x" * 99 + "y")
    assert dashed.slug == "prod-a-b"
    assert dotted.slug.startswith("prod-a-b-")
    assert (len(long.slug), len(other.slug)) == (50, 50)
    assert long.slug != other.slug
