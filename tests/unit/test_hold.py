"""The hold rule, and the pause between attempts, as functions of values."""

from datetime import UTC, datetime

import pytest

from leaderjob.engine.hold import hold_until, unreaped
from leaderjob.engine.retry import backoff_s
from leaderjob.model.run import Attempt, Cause, Run, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def attempt(*, workers_gone: bool) -> Attempt:
    return Attempt(number=1, token=4, replica="r1", ttl_s=10.0, started=NOW, workers_gone=workers_gone)


def test_workers_of_a_lost_leader_are_waited_for_longer_than_its_ttl() -> None:
    assert hold_until(attempt(workers_gone=False), since=100.0) == pytest.approx(110.1)


def test_nobody_waits_for_workers_that_are_recorded_as_gone() -> None:
    assert hold_until(attempt(workers_gone=True), since=100.0) == 100.0


def run(name: str, *attempts: tuple[int, bool]) -> Run:
    """:param attempts: the term of each, and whether nothing was left of it."""
    made = tuple(
        attempt(workers_gone=gone).model_copy(update={"number": number, "token": token})
        for number, (token, gone) in enumerate(attempts, start=1)
    )
    return Run(id=name, job="j", cause=Cause.TRIGGER, state=State.DONE, created=NOW, ended=NOW, attempts=made)


def test_every_run_is_waited_for_of_which_the_latest_term_that_began_one_left_processes() -> None:
    left, too = run("left", (4, True), (5, False)), run("too", (5, False))
    assert unreaped([run("gone", (5, True)), left, run("never-begun"), too]) == [left, too]
    assert unreaped([]) == []


@pytest.mark.parametrize("gone", [True, False])
def test_processes_that_a_newer_term_waited_for_are_waited_for_no_more(gone: bool) -> None:
    """It began an attempt, of whichever run, and that is what the hold rule let it do."""
    left, since = run("left", (4, False)), run("since", (5, gone))
    assert unreaped([left, since]) == ([] if gone else [since])
    assert unreaped([left, run("again", (5, True), (6, True))]) == []


def test_the_pause_between_attempts_doubles_up_to_a_minute() -> None:
    assert [backoff_s(failures) for failures in (1, 2, 3, 6, 7, 60)] == [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
