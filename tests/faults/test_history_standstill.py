"""I10, in time, and what a leader gives up office for, on histories written by hand."""

from dataclasses import replace

import pytest

from leaderjob.model.command import Command, CommandKind
from leaderjob.model.run import Outcome
from tests.faults.history import Interval, Intervention
from tests.faults.history.handwritten import BOUNDS, A, B, Written, instant, led, violated

NOTED = replace(BOUNDS, all_noted=True)


def confirmed(written: Written, token: int, until: int, *, since: int = 1, replica: str = "r1") -> None:
    """Its keepalives are confirmed each second, both ends included."""
    for second in range(since, until + 1):
        written.extend(second, replica, token)


def test_a_run_that_does_not_begin_under_a_leader_that_is_well() -> None:
    written, token = led()
    run = written.admit(1, "job", 1)
    confirmed(written, token, 6)
    assert violated(written.history()) == []
    confirmed(written, token, 7, since=7)
    assert violated(written.history()) == ["I10"]
    begun = written.begin(7, run, token, "r1")
    assert violated(written.history()) == ["I10"], "it began too late"
    written.write(8, (written.keys.run("job", run.id), begun.finish(Outcome.SUCCEEDED, now=instant(8))))
    assert violated(written.history(at_rest=True)) == ["I10"]


def test_a_run_of_a_former_term_that_is_not_taken_on() -> None:
    written, first = led()
    written.begin(1, written.admit(1, "job", 1), first, "r1")
    written.stand(2, "r2", B)
    written.expire(10.5, A)
    second = written.win(10.6, "r2", B)
    confirmed(written, second, 15, since=11, replica="r2")
    assert violated(written.history()) == []
    confirmed(written, second, 16, since=16, replica="r2")
    assert violated(written.history()) == ["I10"]


@pytest.mark.parametrize(
    ("event", "fields"),
    [("holding_back", {"seconds": 10.1}), ("attempt_failed", {"again_in_s": 10.1})],
)
def test_a_run_may_wait_for_what_its_leader_says(event: str, fields: dict[str, float]) -> None:
    written, token = led()
    run = written.admit(1, "job", 1)
    written.tell(1, "r1", event, job="another", run=run.id, term=token, **fields)
    confirmed(written, token, 10)
    assert violated(written.history()) == ["I10"]
    written.tell(1, "r1", event, job="job", run=run.id, term=token, **fields)
    assert violated(written.history()) == []


def test_a_run_may_wait_for_another_one_of_its_job() -> None:
    written, token = led()
    written.begin(1, written.admit(1, "job", 1), token, "r1")
    written.admit(2, "job", 2)
    confirmed(written, token, 20)
    assert violated(written.history()) == []


def test_a_fire_that_is_not_accounted_for_under_a_leader_that_is_well() -> None:
    written, token = led()
    written.watermark(1, "job", 0, next_fire=10)
    confirmed(written, token, 15)
    assert violated(written.history()) == [], "it was due at 10"
    confirmed(written, token, 16, since=16)
    assert violated(written.history()) == ["I10"]


def test_the_fires_that_are_accounted_for_are_not_waited_for() -> None:
    written, token = led()
    written.watermark(1, "job", 0, next_fire=3)
    written.watermark(3.1, "job", 3, next_fire=None)
    confirmed(written, token, 20)
    assert violated(written.history()) == []


@pytest.mark.parametrize(("kind", "expected"), [(Intervention.FAULT, []), (Intervention.REJECTION, ["I10"])])
def test_time_in_which_something_was_struck_does_not_count(kind: Intervention, expected: list[str]) -> None:
    written, token = led()
    written.admit(1, "job", 1)
    confirmed(written, token, 11)
    written.interventions.append(Interval(kind, 3, 9))
    assert violated(written.history()) == expected


@pytest.mark.parametrize(("about", "expected"), [("r1", []), ("r2", ["I10"])])
def test_a_leader_whose_clock_was_set_may_be_late_with_its_fires(about: str, expected: list[str]) -> None:
    written, token = led()
    written.watermark(1, "job", 0, next_fire=3)
    confirmed(written, token, 12)
    written.interventions.append(Interval(Intervention.CLOCK_SET, 2, 9, about))
    assert violated(written.history()) == expected
    written.admit(1, "job", 1)
    assert "I10" in violated(written.history()), "its runs do not go by the clock"


def test_time_without_confirmation_does_not_count() -> None:
    written, token = led()
    written.admit(1, "job", 1)
    for second in (1, 2, 8, 9):
        written.extend(second, "r1", token)
    assert violated(written.history()) == []


def test_time_adds_up_over_the_pieces_of_a_term() -> None:
    written, token = led()
    written.admit(1, "job", 1)
    for second in (1, 2, 3, 4, 10, 11, 12, 13):
        written.extend(second, "r1", token)
    assert violated(written.history()) == ["I10"]


def test_a_leader_that_was_asked_to_go_begins_nothing() -> None:
    written, token = led()
    written.admit(1, "job", 1)
    confirmed(written, token, 9)
    assert violated(written.history()) == ["I10"]
    written.tell(2, "r1", "stepping_down", term=token, reason="asked")
    assert violated(written.history()) == []


def test_i11_a_winner_that_does_not_act_does_not_lead() -> None:
    written, _ = led()
    written.stand(1, "r2", B)
    written.resign(2, "r1", A)
    token = written.win(2.1, "r2", B, acts=False)
    written.tell(12, "r2", "takes_office", term=token)
    assert violated(written.history()) == []
    written.told[-1] = replace(written.told[-1], at=20.0)
    assert violated(written.history()) == ["I11"]


def given_up(reason: str = "unfit") -> tuple[Written, int]:
    written, token = led()
    written.tell(30, "r1", "stepping_down", term=token, reason=reason)
    return written, token


def test_i13_office_is_not_given_up_for_nothing() -> None:
    written, _ = given_up()
    assert violated(written.history()) == []
    assert violated(written.history(), NOTED) == ["I13"]


def test_i13_who_is_told_to_stop_gives_up_office() -> None:
    written, _ = given_up()
    written.tell(29, "r1", "replica_stopping")
    assert violated(written.history(), NOTED) == []


@pytest.mark.parametrize(("meant", "expected"), [(0, []), (1, ["I13"])], ids=["this term", "another one"])
def test_i13_who_is_asked_gives_up_office(meant: int, expected: list[str]) -> None:
    written, token = given_up()
    command = Command(
        id="c",
        kind=CommandKind.RESIGN,
        token=token + meant,
        created=instant(29),
        expires=instant(99),
    )
    written.write(29, (f"{written.keys.root}commands/c", command))
    assert violated(written.history(), NOTED) == expected


@pytest.mark.parametrize(
    ("kind", "since", "about", "expected"),
    [
        (Intervention.BAD_DISK, 25, "r1", []),
        (Intervention.BAD_DISK, 25, "r2", ["I13"]),
        (Intervention.HELD_UP, 18, "r1", []),
        (Intervention.HELD_UP, 25, "r1", ["I13"]),
        (Intervention.HELD_UP, 18, "r2", ["I13"]),
    ],
    ids=["its disk", "another's disk", "held up for long", "held up for a moment", "another held up"],
)
def test_i13_who_is_unfit_gives_up_office(
    kind: Intervention, since: float, about: str, expected: list[str]
) -> None:
    written, _ = given_up()
    written.interventions.append(Interval(kind, since, 31, about))
    assert violated(written.history(), NOTED) == expected
