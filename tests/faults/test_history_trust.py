"""I5 and I6, on histories written by hand: who may work, and for how long."""

from collections.abc import Callable

import pytest

from leaderjob.model.run import Outcome, Run
from tests.faults.history import (
    Interval,
    Intervention,
    What,
    check,
)
from tests.faults.history.handwritten import BOUNDS, A, B, Written, instant, led, violated


def test_i5_a_win_that_is_told_after_the_key_is_gone() -> None:
    written, _ = led()
    second = written.stand(1, "r2", B)
    written.resign(2, "r1", A)
    gone = written.write(2, (f"{written.keys.election}{B:x}", None))
    written.tell(2.1, "r2", "term_won", term=second, revision=gone, trusted_until=9.0)
    assert violated(written.history()) == ["I5"]


def test_i5_a_win_while_another_one_is_before() -> None:
    written, _ = led()
    second = written.stand(1, "r2", B)
    written.tell(2, "r2", "term_won", term=second, revision=written.revision, trusted_until=9.0)
    assert violated(written.history()) == ["I5"]


def test_i5_trust_that_outlasts_the_lease() -> None:
    written, token = led()
    written.extend(1, "r1", token, until=10.6)
    written.expire(10.5, A)
    assert violated(written.history()) == ["I5"]


@pytest.mark.parametrize(
    "excuse",
    [
        lambda written, token: written.interventions.append(
            Interval(Intervention.REVOCATION, 4, 6, about=f"{A:x}")
        ),
        lambda written, token: written.tell(4.9, "r1", "term_ended", term=token, reason="resigned"),
    ],
    ids=["an operator revoked it", "the term was over"],
)
def test_i5_trust_may_outlast_a_lease_that_did_not_run_out(excuse: Callable[[Written, int], None]) -> None:
    written, token = led()
    excuse(written, token)
    written.expire(5, A)
    assert violated(written.history()) == []


def test_i5_trust_that_is_extended_without_looking_at_the_key() -> None:
    written, token = led()
    written.write(1, (f"{written.keys.election}{A:x}", None))
    written.extend(1.0, "r1", token, until=9.0)
    assert violated(written.history()) == []
    written.extend(2.0, "r1", token, until=10.0)
    assert violated(written.history()) == ["I5"]


def test_i5_a_worker_that_begins_after_trust_has_ended() -> None:
    written, token = led()
    written.begin(8.5, written.admit(1, "job", 10), token, "r1")
    assert violated(written.history()) == ["I5"]


def test_i5_a_worker_that_outlives_trust() -> None:
    written, token = led()
    run = written.begin(1, written.admit(1, "job", 10), token, "r1")
    written.act(7.99, run)
    assert violated(written.history()) == []
    written.act(8.5, run, pid=77)
    assert violated(written.history()) == ["I5"]


def test_i5_a_worker_that_outlives_the_end_of_its_term() -> None:
    written, token = led()
    run = written.begin(1, written.admit(1, "job", 10), token, "r1")
    written.resign(2, "r1", A)
    written.act(2.5, run)
    assert violated(written.history()) == ["I5"]


def test_i5_a_run_in_a_term_that_nobody_won() -> None:
    written = Written()
    token = written.stand(0, "r1", A)
    written.begin(1, written.admit(1, "job", 10), token, "r1")
    assert violated(written.history()) == ["I5"]


def lost(at: float = 2) -> tuple[Written, Run, int]:
    """r1 dies at work and is taken over by a verdict; ends with the token of r2, which has won then."""
    written, first = led()
    written.stand(1, "r2", B)
    run = written.begin(1, written.admit(1, "job", 10), first, "r1")
    written.write(at, (f"{written.keys.election}{A:x}", None))
    return written, run, written.win(at, "r2", B)


def test_i5_the_hold_rule_is_kept_by_waiting() -> None:
    written, run, second = lost()
    abandoned = written.abandon(12.2, run)
    written.extend(12.3, "r2", second)
    written.begin(12.3, abandoned, second, "r2")
    assert violated(written.history()) == []


def test_i5_the_hold_rule_is_broken_by_whoever_records_a_loss_too_early() -> None:
    written, run, second = lost()
    written.begin(3.1, written.abandon(3, run), second, "r2")
    assert violated(written.history()) == ["I5"]


def test_i5_the_hold_rule_is_broken_by_the_next_fire_too() -> None:
    written, _, second = lost()
    written.begin(3, written.admit(3, "job", 20), second, "r2")
    assert violated(written.history()) == ["I5"]


def test_i5_the_hold_rule_lets_other_jobs_begin_at_once() -> None:
    written, _, second = lost()
    written.begin(3, written.admit(3, "other", 20), second, "r2")
    assert violated(written.history()) == []


def test_i5_the_hold_rule_ends_when_the_guard_attests() -> None:
    written, run, second = lost()
    written.tell(2.5, "r2", "workers_gone", job="job", run=run.id, term=second, former_term=2)
    written.begin(3.1, written.abandon(3, run), second, "r2")
    assert violated(written.history()) == []


def test_i5_the_hold_rule_ends_when_the_former_leader_says_so_itself() -> None:
    written, first = led()
    written.stand(0, "r2", B)
    run = written.abandon(2, written.begin(1, written.admit(1, "job", 10), first, "r1"))
    written.resign(2.1, "r1", A)
    second = written.win(2.2, "r2", B)
    written.begin(2.3, run, second, "r2")
    assert violated(written.history()) == []


@pytest.mark.parametrize(("begins_too", "broken"), [(True, []), (False, ["I5"])])
def test_i5_the_hold_rule_does_not_hold_for_what_a_term_in_between_has_waited_for(
    begins_too: bool, broken: list[str]
) -> None:
    written, first = led()
    written.stand(1, "r2", B)
    run = written.begin(1, written.admit(1, "job", 10), first, "r1")
    left = run.finish(Outcome.FAILED, now=instant(2), workers_gone=False)
    written.write(2, (written.keys.run("job", run.id), left))
    written.resign(2, "r1", A)
    second = written.win(2.1, "r2", B)
    written.extend(12.3, "r2", second)
    if begins_too:
        written.abandon(12.5, written.begin(12.4, written.admit(12.4, "job", 20), second, "r2"))
    written.stand(12.5, "r3", 0xC)
    written.resign(12.6, "r2", B)
    third = written.win(12.7, "r3", 0xC)
    written.begin(12.8, written.admit(12.8, "job", 30), third, "r3")
    assert violated(written.history()) == broken


def test_i6_two_workers_of_one_job_at_once() -> None:
    written, token = led()
    former = written.begin(1, written.admit(1, "job", 10), token, "r1")
    later = written.begin(2, written.admit(2, "job", 20), token, "r1")
    assert violated(written.history()) == []
    written.act(3, later)
    written.act(4, former)
    assert violated(written.history()) == ["I6"]


def test_i6_a_process_that_fled_counts_as_the_worker() -> None:
    written, token = led()
    former = written.begin(1, written.admit(1, "job", 10), token, "r1")
    written.begin(2, written.admit(2, "job", 20), token, "r1")
    written.act(2.1, former, pid=4711)
    assert violated(written.history()) == ["I6"]


def test_i6_the_workers_of_two_jobs_may_overlap() -> None:
    written, token = led()
    one = written.begin(1, written.admit(1, "one", 10), token, "r1")
    two = written.begin(2, written.admit(2, "two", 20), token, "r1")
    written.act(3, one)
    written.act(3, two)
    assert violated(written.history()) == []


def test_effects_that_began_are_told_apart_from_those_that_went_on() -> None:
    written, token = led()
    written.begin(9, written.admit(1, "job", 10), token, "r1")
    assert written.effects[0].what is What.BEGAN
    (violation,) = check(written.history(), BOUNDS)
    assert "began after its term" in violation.sentence


def test_i6_a_worker_that_outlives_the_next_one_overlaps_with_the_one_after_it_too() -> None:
    written, token = led()
    first = written.begin(1, written.admit(1, "job", 10), token, "r1")
    written.begin(2, written.admit(2, "job", 20), token, "r1")
    written.begin(3, written.admit(3, "job", 30), token, "r1")
    written.act(4, first)
    assert violated(written.history()) == ["I6", "I6"]
