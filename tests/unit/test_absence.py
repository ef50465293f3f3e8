"""Fires that were missed while somebody led without the job are told with that reason, and no others are."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from leaderjob.scheduling.absence import NO_REPLICA_HAD_IT, NOBODY_LED, Absence, missed_between
from leaderjob.scheduling.plan import plan
from leaderjob.scheduling.triggers import parse_schedule

MINUTELY = parse_schedule(["* * * * *"], job="x")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def absence(since: float, until: float, *elsewhere: float) -> Absence:
    instants = tuple(NOON + minutes(each) for each in elsewhere)
    return Absence(NOON + minutes(since), NOON + minutes(until), "r1", instants)


def told(until: float, *absences: Absence) -> list[tuple[int, str]]:
    return [
        (missed.fires.count, missed.why)
        for missed in missed_between(MINUTELY, NOON, NOON + minutes(until), absences)
    ]


def test_a_gap_has_a_range_for_each_reason() -> None:
    assert told(10) == [(10, NOBODY_LED)]
    assert told(10, absence(2.5, 5.5)) == [(2, NOBODY_LED), (3, NO_REPLICA_HAD_IT), (5, NOBODY_LED)]
    assert told(10, absence(2.5, 5.5), absence(5.6, 7.5)) == [
        (2, NOBODY_LED),
        (5, NO_REPLICA_HAD_IT),
        (3, NOBODY_LED),
    ]


def test_no_replica_is_said_to_have_lacked_a_job_that_another_one_had() -> None:
    assert told(4, absence(-1, 9, 1.5, 3.5)) == [
        (1, NO_REPLICA_HAD_IT),
        (2, "the leader, r1, did not have this job"),
        (1, NO_REPLICA_HAD_IT),
    ]


def test_the_reason_is_told_of_what_is_too_late_and_of_what_is_coalesced() -> None:
    late = plan(
        MINUTELY,
        watermark=NOON,
        now=NOON + minutes(3.5),
        misfire_grace_s=10,
        active_run=None,
        absences=[absence(-1, 9)],
    )
    (refusal,) = late.refused
    assert refusal.reason == (
        "older than the misfire grace of 10s: 30s late at best, as no replica had this job when due"
    )
    assert refusal.code == "no_job"
    in_time = plan(
        MINUTELY,
        watermark=NOON,
        now=NOON + minutes(3),
        misfire_grace_s=10,
        active_run=None,
        absences=[absence(-1, 9)],
    )
    (refusal,) = in_time.refused
    assert refusal.reason.startswith("due while no replica had this job, and coalesced into the latest fire")
    assert in_time.admit == NOON + minutes(3)


INSTANTS = st.integers(-5, 30).map(lambda half: half / 2)


@given(
    until=st.integers(0, 12),
    absences=st.lists(
        st.builds(absence, INSTANTS, INSTANTS, INSTANTS) | st.builds(absence, INSTANTS, INSTANTS), max_size=4
    ),
)
def test_every_fire_is_in_one_range_whatever_the_absences(until: int, absences: list[Absence]) -> None:
    ranges = [missed.fires for missed in missed_between(MINUTELY, NOON, NOON + minutes(until), absences)]
    assert sum(fires.count for fires in ranges) == until
    accounted = [instant for fires in ranges for instant in (fires.first, fires.last)]
    assert accounted == sorted(accounted)
    assert len({fires.last for fires in ranges}) == len(ranges), "each has a run id of its own"
