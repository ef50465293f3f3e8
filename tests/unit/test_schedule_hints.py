"""A schedule or a time zone as another tool writes it gets a hint to ours, and each hint is right."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderjob.errors import InvalidSchedule
from leaderjob.scheduling.triggers import parse_schedule, works
from leaderjob.scheduling.zone_names import load_zone


def refusal(expression: str, time_zone: str = "UTC") -> str:
    with pytest.raises(InvalidSchedule) as caught:
        parse_schedule([expression], job="x", time_zone=time_zone)
    return str(caught.value)


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("@every 5m", "every 5m"),
        ("@every 1h30m", "every 1h30m"),
        ("rate(5 minutes)", "every 5m"),
        ("every 1 hour 30 minutes", "every 1h30m"),
        ("every 2 weeks", "every 14d"),
        ("PT5M", "every 5m"),
        ("P1DT12H", "every 1d12h"),
        ("5m", "every 5m"),
        ("hourly", "@hourly"),
        ("@Daily", "@daily"),
        ("03:30", "30 3 * * *"),
        ("0 3 ? * *", "0 3 * * *"),
        ("0 3 * * ?", "0 3 * * *"),
        ("0 0 12 * * *", "0 12 * * *"),
        ("0 0 1 1 * 2027", "0 0 1 1 *"),
        ("* * * * 7-1", "* * * * 0-1"),
        ("² 0 3 * * *", "0 3 * * *"),
        ("① * * * * *", "* * * * *"),
        ("0 0 12 ? * MON-FRI", "0 12 * * MON-FRI"),
        ("0 0 12 ? * MON-FRI *", "0 12 * * MON-FRI"),
        ("*/10 * * * * *", "every 10s"),
        ("0/10 * * * * ?", "every 10s"),
        ("* * * * * *", "every 1s"),
        ("cron(0 10 * * ? *)", "0 10 * * *"),
        ("0 10 ? * MON-FRI *", "0 10 * * MON-FRI"),
        ("0 3 * * * # nightly", "0 3 * * *"),
        ("@daily # nightly", "@daily"),
        ("0 3 * * * root /usr/bin/backup --all", "0 3 * * *"),
        ("0 3 * * Monday", "0 3 * * mon"),
        ("0 3 1 January *", "0 3 1 jan *"),
        ("0 3 * * MON-SUN", "0 3 * * SUN-SAT"),
        ("0 3 1 * mon-sun", "0 3 1 * sun-sat"),
        ("0 3 * * 1-0", "0 3 * * 0-6"),
        ("0 3 * * FRI-MON", "0 3 * * FRI-SAT,SUN-MON"),
        ("0 3 * * FRI-SUN", "0 3 * * FRI-SAT,SUN"),
        ("0 22-4 * * *", "0 22-23,0-4 * * *"),
        ("0 0 1 NOV-FEB *", "0 0 1 NOV-DEC,JAN-FEB *"),
        ("CRON_TZ=Asia/Tokyo 0 0 12 ? * MON-FRI # at noon", "0 12 * * MON-FRI"),
    ],
)
def test_what_another_tool_writes_is_translated(foreign: str, ours: str) -> None:
    assert f"; use {ours!r}" in refusal(foreign)
    assert works(ours)


@pytest.mark.parametrize(
    "text", ["CRON_TZ=Europe/Berlin 0 3 * * *", "TZ=Europe/Berlin 0 3 * * *", "0 3 * * * Europe/Berlin"]
)
def test_a_time_zone_in_the_schedule_belongs_to_the_job(text: str) -> None:
    said = refusal(text)
    assert "use '0 3 * * *'" in said
    assert "set the job's time_zone to 'Europe/Berlin'" in said


def test_an_unknown_time_zone_in_the_schedule_is_not_repeated() -> None:
    said = refusal("CRON_TZ=localtime 0 3 * * *")
    assert "time_zone, to a name of the IANA database" in said


@pytest.mark.parametrize(
    "text", ["0 0 L * *", "0 0 LW * *", "0 0 15W * *", "0 0 * * 5L", "0 0 * * MON#1", "0 0 0 L * ?"]
)
def test_what_a_crontab_cannot_say_is_named_as_not_supported(text: str) -> None:
    assert (
        "'L', 'W' and '#' (the last day, the nearest working day, the nth weekday) are not supported"
        in refusal(text)
    )


@pytest.mark.parametrize("text", ["0 0 12 ? * 2-6", "0 0 12 ? * 2 *", "cron(0 10 ? * 2-6 *)"])
def test_numbered_weekdays_that_may_mean_other_days_are_not_translated(text: str) -> None:
    said = refusal(text)
    assert "; use '" not in said
    assert "numbered from 0 here, which is Sunday: better write their names" in said


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("30 0 12 * * *", "a crontab has no seconds"),
        ("0 0 12 1 1 ? 2030", "a crontab has no year"),
        ("0 0 1 1 * 2027", "a crontab has no year"),
        ("CRON_TZ= 0 3 * * *", "set the time zone by the job's time_zone"),
        ("@every 500ms", "an interval is written as 'every 5m', in whole seconds"),
        ("0 3 * * * backup.sh", "a schedule has no command"),
    ],
)
def test_what_is_lost_in_translation_is_said(text: str, note: str) -> None:
    assert note in refusal(text)


@pytest.mark.parametrize(
    "text", ["61 * * * *", "every now and then", "* * * *", "0 3 30 2 *", "@reboot", "", "every two days"]
)
def test_what_nobody_can_know_gets_no_hint(text: str) -> None:
    assert "; use" not in refusal(text)


def test_a_range_of_h_that_runs_backwards_cannot_be_split() -> None:
    assert refusal("H(5-1) * * * *").endswith("runs backwards")


@settings(deadline=None, max_examples=150, database=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "²",
                "٣",
                "*",
                "?",
                "0",
                "*/5",
                "0/5",
                "MON-SUN",
                "5-1",
                "L",
                "MON#1",
                "#",
                "x",
                "@every",
                "5m",
                "TZ=UTC",
                "2030",
            ]
        ),
        max_size=9,
    ).map(" ".join)
)
def test_a_replacement_that_is_offered_can_be_used(text: str) -> None:
    try:
        parse_schedule([text], job="x")
    except InvalidSchedule as error:
        offered = re.search(r"; use '([^']*)'", str(error))
        assert offered is None or works(offered[1])


@pytest.mark.parametrize(
    ("zone", "better"),
    [
        ("right/Europe/Berlin", "use 'Europe/Berlin'"),
        ("posix/Europe/Berlin", "use 'Europe/Berlin'"),
        ("localtime", "depends on the machine"),
        ("posixrules", "depends on the machine"),
        ("Factory", "depends on the machine"),
    ],
)
def test_a_time_zone_that_differs_by_machine_is_refused(zone: str, better: str) -> None:
    said = refusal("0 3 * * *", zone)
    assert f"time zone {zone!r}" in said
    assert better in said


@pytest.mark.parametrize(
    "name", ["GMT+2", "UTC+2", "UTC+02:00", "+02:00", "gmt+2".upper(), "UTC-5", "GMT-11", "UTC+14", "-12"]
)
def test_an_offset_is_answered_with_a_zone_of_the_same_offset(name: str) -> None:
    said = refusal("0 3 * * *", name)
    offered = re.search(r"use '(Etc/[^']*)'", said)
    assert offered is not None
    hours = int(re.sub(r"^(UTC|GMT)|:00$", "", name))
    assert datetime(2030, 1, 1, tzinfo=load_zone(offered[1])).utcoffset() == timedelta(hours=hours)
    assert "the sign in these names is reversed" in said


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("UTC+05:30", "name a place with that offset, such as 'Asia/Kolkata'"),
        ("UTC+01:15", "name a place with that offset"),
        ("GMT+0:00", "use 'UTC'"),
        ("UTC+15", "no place has that offset"),
        ("CEST", "use 'Europe/Berlin'"),
        ("BST", "use 'Europe/London' or 'Asia/Dhaka'"),
        ("IST", "use 'Asia/Kolkata' or 'Asia/Jerusalem' or 'Europe/Dublin'"),
        ("PST", "use 'America/Los_Angeles'"),
        ("pdt", "use 'America/Los_Angeles'"),
        ("EDT", "use 'America/New_York'"),
        ("JST", "use 'Asia/Tokyo'"),
        ("europe/berlin", "use 'Europe/Berlin'"),
        ("EUROPE/BERLIN", "use 'Europe/Berlin'"),
        (" Europe/Berlin ", "use 'Europe/Berlin'"),
        ("America/New York", "use 'America/New_York'"),
        ("utc", "use 'UTC'"),
        ("Berlin", "use 'Europe/Berlin'"),
        ("Asia/Tokio", "did you mean 'Asia/Tokyo'?"),
        ("America/Washington", "use a name of the IANA database"),
        ("Asia/Beijing", "use a name of the IANA database"),
        ("Etc/GMT+13", "no place has that offset"),
    ],
)
def test_a_hint_names_the_same_place_or_the_same_offset(name: str, hint: str) -> None:
    assert f"is unknown: {hint}" in refusal("0 3 * * *", name).replace("it is an abbreviation; ", "")


@pytest.mark.parametrize("name", ["CET", "EST", "MST", "EET", "GMT", "Zulu", "Etc/GMT+2", "EST5EDT"])
def test_abbreviations_that_are_zones_of_their_own_are_accepted(name: str) -> None:
    assert datetime(2030, 1, 1, tzinfo=UTC).astimezone(load_zone(name)).utcoffset() is not None
