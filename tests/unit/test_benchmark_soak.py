"""What a soak concludes from what it has seen."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leaderjob.model.run import Attempt, Cause, Outcome, Run, State

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FACTS: dict[str, Any] = {"minutes": 1, "members": 1, "burners": 2, "ttl_s": 10}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _run(fire_s: float, *, late_s: float = 0.1, outcome: Outcome = Outcome.SUCCEEDED) -> Run:
    fire = NOON + timedelta(seconds=fire_s)
    began = Attempt(number=1, token=7, replica="r1", ttl_s=10, started=fire + timedelta(seconds=late_s))
    return Run(
        id=f"run-{fire_s:g}",
        job="fives",
        cause=Cause.SCHEDULE,
        state=State.DONE,
        created=fire,
        fire_time=fire,
        attempts=(began,),
        outcome=outcome,
        reason=None if outcome is Outcome.SUCCEEDED else "the disk is full",
    )


def _judged(
    *runs: Run, terms: tuple[int, ...] = (7,), logs: tuple[str, ...] = (), until_s: float = 22
) -> Any:
    from endurance.evidence import Evidence, judge

    evidence = Evidence({"fives": timedelta(seconds=5)})
    for term in terms:
        evidence.saw_leader(term)
    for run in runs:
        evidence.saw_run(run)
    return judge(evidence, logs, since=NOON, until=NOON + timedelta(seconds=until_s), **FACTS)


def test_a_soak_without_trouble_has_no_problems() -> None:
    runs = [_run(fire_s) for fire_s in (5, 10, 15, 20)]
    verdict = _judged(*runs, *runs, terms=(7, 7, 7))
    assert (verdict.problems, verdict.fires, verdict.leader_changes) == ([], 4, 0)


def test_another_term_is_a_change_of_leadership_and_so_is_none() -> None:
    verdict = _judged(_run(5), _run(10), _run(15), _run(20), terms=(7, 0, 7))
    assert verdict.leader_changes == 2
    assert verdict.problems == ["leadership changed 2 times"]


@pytest.mark.parametrize(
    ("fires_s", "problem"),
    [
        ((10, 15, 20), "fives: 1 missing between 12:00:00 and 12:00:10"),
        ((7, 12, 17, 22), "fives: 1 missing between 12:00:00 and 12:00:07"),
        ((5, 20), "fives: 2 missing between 12:00:05 and 12:00:20"),
        ((5, 10), "fives: 2 missing at the end, after 12:00:10"),
        ((), "fives: no fire at all"),
    ],
)
def test_a_missing_fire_is_a_problem_wherever_it_is(fires_s: tuple[float, ...], problem: str) -> None:
    assert _judged(*(_run(fire_s) for fire_s in fires_s)).problems == [problem]


def test_a_job_that_was_not_due_misses_nothing() -> None:
    assert _judged(until_s=4).problems == []


def test_a_run_that_did_not_succeed_is_a_problem_with_its_reason() -> None:
    runs = [_run(5), _run(10, outcome=Outcome.FAILED), _run(15), _run(20)]
    (problem,) = _judged(*runs).problems
    assert problem.endswith("failed: the disk is full")


def test_the_worst_lateness_is_that_of_the_first_attempt() -> None:
    runs = [_run(5), _run(10, late_s=1.25), _run(15), _run(20)]
    verdict = _judged(*runs)
    assert verdict.worst_lateness_s == pytest.approx(1.25)
    assert "1250 ms after it was due" in verdict.render()


def test_the_least_trust_is_what_was_left_when_the_next_keepalive_was_confirmed() -> None:
    from endurance.evidence import least_trust_s

    log = (
        "12:00:00.000 DEBUG   r1 trust_extended term=7 left_s=8\n"
        "12:00:02.500 DEBUG   r1 trust_extended term=7 left_s=7.9\n"
        "12:00:04.000 INFO    r1 run_started job=fives left_s=1\n"
        "12:00:04.600 DEBUG   r1 trust_extended term=7 left_s=8\n"
    )
    assert least_trust_s(log) == pytest.approx(5.5)
    assert least_trust_s("12:00:00.000 DEBUG   r1 trust_extended term=7 left_s=8\n") is None


def test_midnight_does_not_take_trust_away() -> None:
    from endurance.evidence import least_trust_s

    log = (
        "23:59:59.000 DEBUG   r1 trust_extended term=7 left_s=8\n"
        "00:00:01.000 DEBUG   r1 trust_extended term=7 left_s=8\n"
    )
    assert least_trust_s(log) == pytest.approx(6.0)


def test_trust_at_risk_is_counted_in_all_logs() -> None:
    line = "12:00:00.000 WARNING r1 trust_at_risk term=7 left_s=3.9\n"
    assert _judged(logs=(line * 2, line), until_s=4).trust_at_risk == 3
