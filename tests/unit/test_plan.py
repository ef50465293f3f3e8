"""Each due fire is accounted for exactly once: admitted, skipped or missed, each with its reason."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from leaderjob.model.run import FireRange, Outcome
from leaderjob.scheduling.plan import Plan, plan
from leaderjob.scheduling.triggers import parse_schedule

MINUTELY = parse_schedule(["* * * * *"], job="x")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def decide(
    *, watermark: datetime, now: datetime, misfire_grace_s: float = 60, active_run: str | None = None
) -> Plan:
    return plan(
        MINUTELY, watermark=watermark, now=now, misfire_grace_s=misfire_grace_s, active_run=active_run
    )


def test_nothing_is_due_before_the_next_fire() -> None:
    assert decide(watermark=NOON, now=NOON + 59 * SECOND) == Plan(NOON, NOON + MINUTE, None, ())


def test_a_fire_that_is_due_is_admitted_and_moves_the_watermark() -> None:
    now = NOON + MINUTE
    assert decide(watermark=NOON, now=now) == Plan(now, now + MINUTE, now, ())


def test_a_range_of_missed_fires_becomes_one_refusal_and_the_latest_is_admitted() -> None:
    decided = decide(watermark=NOON, now=NOON + 10 * MINUTE + SECOND)
    latest = NOON + 10 * MINUTE
    assert (decided.watermark, decided.next_fire, decided.admit) == (latest, latest + MINUTE, latest)
    (refusal,) = decided.refused
    assert refusal.fires == FireRange(first=NOON + MINUTE, last=NOON + 9 * MINUTE, count=9)
    assert refusal.outcome is Outcome.MISSED
    assert "coalesced into the latest fire, 2026-03-01T12:10:00+00:00" in refusal.reason


def test_a_fire_exactly_as_late_as_the_grace_is_admitted() -> None:
    decided = decide(watermark=NOON, now=NOON + MINUTE + 30 * SECOND, misfire_grace_s=30)
    assert (decided.admit, decided.refused) == (NOON + MINUTE, ())


def test_a_fire_older_than_the_grace_is_missed() -> None:
    decided = decide(watermark=NOON, now=NOON + MINUTE + 31 * SECOND, misfire_grace_s=30)
    assert (decided.admit, decided.watermark) == (None, NOON + MINUTE)
    (refusal,) = decided.refused
    assert refusal.fires == FireRange(first=NOON + MINUTE, last=NOON + MINUTE, count=1)
    assert refusal.outcome is Outcome.MISSED
    assert refusal.reason.startswith("older than the misfire grace of 30s: 31s late")


def test_a_latest_fire_older_than_the_grace_is_missed_in_one_range_with_the_rest() -> None:
    decided = decide(watermark=NOON, now=NOON + 5 * MINUTE + 31 * SECOND, misfire_grace_s=30)
    assert decided.admit is None
    (refusal,) = decided.refused
    assert refusal.fires == FireRange(first=NOON + MINUTE, last=NOON + 5 * MINUTE, count=5)


def test_an_active_run_makes_the_latest_fire_skipped() -> None:
    decided = decide(watermark=NOON, now=NOON + MINUTE, active_run="20260301t115900z")
    assert (decided.admit, decided.watermark) == (None, NOON + MINUTE)
    (refusal,) = decided.refused
    assert refusal.fires == FireRange(first=NOON + MINUTE, last=NOON + MINUTE, count=1)
    assert refusal.outcome is Outcome.SKIPPED
    assert "run 20260301t115900z was still active" in refusal.reason


def test_with_an_active_run_the_earlier_fires_are_missed_and_only_the_latest_is_skipped() -> None:
    decided = decide(watermark=NOON, now=NOON + 3 * MINUTE, active_run="r")
    assert [(refusal.outcome, refusal.fires.count) for refusal in decided.refused] == [
        (Outcome.MISSED, 2),
        (Outcome.SKIPPED, 1),
    ]


def test_a_fire_too_late_is_missed_even_if_a_run_is_active() -> None:
    decided = decide(watermark=NOON, now=NOON + MINUTE + 31 * SECOND, misfire_grace_s=30, active_run="r")
    assert [refusal.outcome for refusal in decided.refused] == [Outcome.MISSED]


def test_a_clock_that_was_set_back_finds_nothing_due_and_keeps_the_watermark() -> None:
    assert decide(watermark=NOON, now=NOON - timedelta(hours=1)) == Plan(NOON, NOON + MINUTE, None, ())


def test_a_schedule_that_is_over_has_no_next_fire() -> None:
    once = parse_schedule([NOON.isoformat()], job="x")
    due = plan(once, watermark=NOON - MINUTE, now=NOON, misfire_grace_s=60, active_run=None)
    assert due == Plan(NOON, None, NOON, ())
    over = plan(once, watermark=NOON, now=NOON + MINUTE, misfire_grace_s=60, active_run=None)
    assert over == Plan(NOON, None, None, ())


def test_a_job_without_schedule_has_nothing_to_plan() -> None:
    never = parse_schedule([], job="x")
    assert plan(never, watermark=NOON, now=NOON + MINUTE, misfire_grace_s=60, active_run=None) == Plan(
        NOON, None, None, ()
    )


def test_a_gap_too_long_to_count_says_that_its_count_is_a_lower_bound() -> None:
    decided = decide(watermark=NOON - timedelta(days=700), now=NOON)
    assert decided.admit == NOON
    (refusal,) = decided.refused
    assert refusal.fires == FireRange(
        first=NOON - timedelta(days=700) + MINUTE, last=NOON - MINUTE, count=10_000, exact=False
    )


steps = st.lists(st.tuples(st.integers(-900, 1800), st.booleans()), min_size=1, max_size=12)


@settings(deadline=None, database=None)
@given(
    st.sampled_from(["every 7s", "*/3 * * * *", "every 50s"]),
    steps,
    st.sampled_from([0.0, 5.0, 60.0]),
)
def test_every_due_fire_is_accounted_for_exactly_once(
    expression: str, moves: list[tuple[int, bool]], misfire_grace_s: float
) -> None:
    """Through any sequence of looks at a clock that jumps both ways."""
    trigger = parse_schedule([expression], job="x")
    watermark = now = highest = NOON
    accounted: list[tuple[datetime, datetime, int]] = []
    for seconds, active in moves:
        now += timedelta(seconds=seconds)
        highest = max(highest, now)
        decided = plan(
            trigger,
            watermark=watermark,
            now=now,
            misfire_grace_s=misfire_grace_s,
            active_run="r" if active else None,
        )
        assert decided.watermark >= watermark
        assert decided.next_fire is not None
        assert decided.next_fire > max(decided.watermark, now)
        watermark = decided.watermark
        for refusal in decided.refused:
            accounted.append((refusal.fires.first, refusal.fires.last, refusal.fires.count))
        if decided.admit is not None:
            assert not active
            assert now - decided.admit <= timedelta(seconds=misfire_grace_s)
            accounted.append((decided.admit, decided.admit, 1))
    edge = NOON
    for first, last, count in accounted:
        assert first == trigger.next_after(edge)
        assert trigger.between(edge, last).count == count
        edge = last
    assert trigger.between(edge, highest).count == 0
