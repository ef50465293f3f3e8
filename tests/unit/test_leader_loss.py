"""What becomes of a run whose attempt did not outlive its leader."""

from datetime import UTC, datetime

import pytest

from leaderjob.engine.leader_loss import settle
from leaderjob.model.job import OnLeaderLoss, Policy
from leaderjob.model.run import Cause, Outcome, Run, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(*handed_over: bool) -> Run:
    """A run whose attempts were abandoned, each by its own leader."""
    run = Run(id="r", job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=NOW)
    for token, in_order in enumerate(handed_over, start=1):
        run = run.begin(token=token, replica="r1", ttl_s=10.0, now=NOW)
        run = run.end_attempt(Outcome.ABANDONED, now=NOW, reason="as made up", handed_over=in_order)
    return run


def settled(run: Run, **policy: object) -> Run:
    return settle(run, Policy.model_validate(policy), token=99, now=NOW, workers_gone=True)


def test_handovers_in_order_use_up_no_leader_losses() -> None:
    run = after(*[True] * 50)

    assert (run.leader_losses, run.attempt_count) == (0, 50)
    assert settled(run, max_leader_losses=0).state is State.RUNNING


@pytest.mark.parametrize(("losses", "state"), [(3, State.RUNNING), (4, State.DONE)])
def test_crashes_use_them_up_whatever_is_handed_over_between(losses: int, state: State) -> None:
    run = after(*[True, False, True] * losses)

    assert run.leader_losses == losses
    done = settled(run, max_leader_losses=3)
    assert done.state is state
    if state is State.DONE:
        assert done.outcome is Outcome.ABANDONED
        assert str(done.reason).startswith("abandoned 4 times, more than the job allows")


def test_an_attempt_whose_leader_left_it_open_is_a_loss() -> None:
    run = after(True).begin(token=7, replica="r1", ttl_s=10.0, now=NOW)

    assert settled(run, max_leader_losses=0).outcome is Outcome.ABANDONED


@pytest.mark.parametrize("in_order", [True, False])
def test_a_job_that_asks_for_at_most_one_start_gets_no_other_after_a_handover_either(in_order: bool) -> None:
    done = settled(after(in_order), on_leader_loss=OnLeaderLoss.ABANDON)

    assert done.outcome is Outcome.ABANDONED
    assert done.reason == "as made up, and the job asks for at most one start"
