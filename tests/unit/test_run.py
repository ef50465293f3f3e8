"""A run goes through its states in one direction only."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderjob.model.run import Attempt, Cause, IllegalTransition, Outcome, Run, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def admitted() -> Run:
    return Run(id="r", job="j", cause=Cause.SCHEDULE, state=State.ADMITTED, created=NOW, fire_time=NOW)


def begun(run: Run, token: int = 7) -> Run:
    return run.begin(token=token, replica="r1", ttl_s=10.0, now=NOW)


def test_an_attempt_begins_and_the_run_ends_with_it() -> None:
    done = begun(admitted()).finish(Outcome.SUCCEEDED, now=NOW, version=3)

    assert (done.state, done.outcome, done.version) == (State.DONE, Outcome.SUCCEEDED, 3)
    assert done.attempt is not None
    assert (done.attempt.outcome, done.attempt.workers_gone) == (Outcome.SUCCEEDED, True)


def test_a_second_attempt_needs_the_first_one_to_be_over() -> None:
    with pytest.raises(IllegalTransition):
        begun(begun(admitted()))

    again = begun(begun(admitted()).end_attempt(Outcome.FAILED, now=NOW), token=8)
    assert [attempt.number for attempt in again.attempts] == [1, 2]
    assert again.attempt is not None
    assert again.attempt.token == 8


def test_a_run_that_is_over_stays_over() -> None:
    done = begun(admitted()).finish(Outcome.FAILED, now=NOW)

    for transition in (
        lambda: begun(done),
        lambda: done.finish(Outcome.SUCCEEDED, now=NOW),
        lambda: done.end_attempt(Outcome.FAILED, now=NOW),
    ):
        with pytest.raises(IllegalTransition):
            transition()


def test_a_run_that_never_began_can_end_without_an_attempt() -> None:
    done = admitted().finish(Outcome.CANCELLED, now=NOW, reason="unwanted")

    assert (done.attempts, done.reason) == ((), "unwanted")


def test_only_abandoned_attempts_count_as_lost_leaders() -> None:
    run = admitted()
    for outcome in (Outcome.ABANDONED, Outcome.FAILED, Outcome.ABANDONED):
        run = begun(run).end_attempt(outcome, now=NOW)

    assert (run.leader_losses, run.failed_attempts) == (2, 1)


def test_a_run_that_is_over_does_not_claim_that_processes_are_gone_which_are_not() -> None:
    done = begun(admitted()).finish(Outcome.FAILED, now=NOW, workers_gone=False)

    assert done.attempt is not None
    assert not done.attempt.workers_gone


def test_a_record_survives_its_bytes() -> None:
    run = begun(admitted())

    assert Run.from_bytes(run.to_bytes()) == run


def test_fields_that_a_newer_release_added_outlive_every_transition() -> None:
    newer = begun(admitted()).to_bytes().replace(b'"v":1,', b'"v":1,"colour":{"of":["red",null]},')
    run = Run.from_bytes(newer)
    done = begun(run.end_attempt(Outcome.FAILED, now=NOW)).finish(Outcome.SUCCEEDED, now=NOW)

    told = json.loads(done.to_bytes())
    assert told["colour"] == told["attempts"][0]["colour"] == {"of": ["red", None]}
    assert (done.outcome, done.attempt_count) == (Outcome.SUCCEEDED, 2)


def test_a_run_that_is_tried_often_keeps_its_first_attempt_the_latest_ten_and_counts() -> None:
    run = admitted()
    for number in range(1, 301):
        outcome = Outcome.ABANDONED if number % 3 == 0 else Outcome.FAILED
        run = begun(run).end_attempt(outcome, now=NOW, reason=f"{number} " * 2000)

    assert [attempt.number for attempt in run.attempts] == [1, *range(291, 301)]
    assert (run.attempt_count, run.failed_attempts, run.leader_losses) == (300, 200, 100)
    assert run.omitted is not None
    assert run.omitted.count == 289
    assert len(run.to_bytes()) < 16_384


def test_a_record_with_more_attempts_than_fit_is_cut_with_its_next_transition() -> None:
    attempts = tuple(
        Attempt(
            number=number, token=7, replica="r1", ttl_s=10.0, started=NOW, ended=NOW, outcome=Outcome.FAILED
        )
        for number in range(1, 355)
    )
    run = admitted().model_copy(update={"state": State.RUNNING, "attempts": attempts})
    again = begun(run)

    assert [attempt.number for attempt in again.attempts] == [1, *range(346, 356)]
    assert again.failed_attempts == 354


@given(st.text(st.characters(codec=None), max_size=300))
def test_any_text_can_be_the_reason_of_a_record_that_can_be_read_again(text: str) -> None:
    done = begun(admitted()).finish(Outcome.FAILED, now=NOW, reason=text)

    assert Run.from_bytes(done.to_bytes()) == done


def test_a_reason_is_shown_without_control_characters_and_cut() -> None:
    done = admitted().finish(Outcome.FAILED, now=NOW, reason="\x1b[31m\udc80\u202e\n" + "x" * 10_000)

    assert done.reason is not None
    assert done.reason.startswith("\\x1b[31m\\udc80\\u202e\nxxx")
    assert (len(done.reason), done.reason[-1]) == (4096, "…")


def test_a_clock_that_is_wrong_makes_no_pause_longer_than_it_was_meant() -> None:
    waiting = begun(admitted()).end_attempt(Outcome.FAILED, now=NOW).retry_after(60.0)

    minutes = [waiting.retry_pause_s(NOW + timedelta(minutes=offset)) for offset in (-1_000_000, 0, 0.5, 2)]
    assert minutes == [60.0, 60.0, 30.0, 0.0]
    assert begun(waiting).retry_pause_s(NOW) == 0.0
