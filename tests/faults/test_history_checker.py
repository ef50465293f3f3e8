"""The checker as a whole, and I11 to I13, on histories written by hand."""

from dataclasses import replace

from leaderjob.model.run import Outcome
from tests.faults.history import (
    Gap,
    Interval,
    Intervention,
    Remains,
    Served,
    Violation,
)
from tests.faults.history.handwritten import BOUNDS, DIGEST, A, B, Written, instant, led, taken_over, violated


def test_an_uneventful_history_has_no_violations() -> None:
    written, token = led()
    written.watermark(1, "job", 0)
    run = written.admit(2, "job", 10)
    written.watermark(2, "job", 10)
    begun = written.begin(2.1, run, token, "r1")
    written.act(2.5, begun)
    written.stage(2.6, begun, token)
    written.publish(3, begun, token, 1)
    written.served.append(Served("r1", "job", DIGEST, whole=True, run=run.id))
    written.tell(3, "r1", "activated", job="job", version=1)
    written.hold(3.1, "r1", A, "job", 1)
    assert violated(written.history(at_rest=True), replace(BOUNDS, healthy=True)) == []


def test_a_gap_is_told_as_unknown_and_never_as_fine() -> None:
    written, _ = led()
    history = written.history(gaps=(Gap(2, 9, "compacted"),))
    assert violated(history) == ["unknown"]


def test_i11_nobody_leads_although_somebody_could() -> None:
    written, _, _ = taken_over(10.5)
    assert violated(written.history()) == []
    written, _ = led()
    written.stand(1, "r2", B)
    written.write(2, (f"{written.keys.election}{A:x}", None))
    written.win(20, "r2", B)
    assert violated(written.history()) == ["I11"]


def test_i11_an_outage_excuses_that_nobody_leads() -> None:
    written, _ = led()
    written.stand(1, "r2", B)
    written.write(2, (f"{written.keys.election}{A:x}", None))
    written.win(20, "r2", B)
    written.interventions.append(Interval(Intervention.OUTAGE, 3, 15))
    assert violated(written.history()) == []


def test_i11_nobody_leads_at_rest() -> None:
    written, _ = led()
    written.resign(2, "r1", A)
    assert violated(written.history(ended_at=20.0)) == []
    assert violated(written.history(ended_at=20.0, at_rest=True)) == ["I11"]


def remaining(remains: Remains) -> list[str]:
    written, token = led()
    run = written.begin(1, written.admit(1, "job", 10), token, "r1")
    process = written.effects[-1].process
    assert process == (1000 * token + 1, 1000 * token + 1)
    written.write(2, (written.keys.run("job", run.id), run.finish(Outcome.SUCCEEDED, now=instant(2))))
    return violated(written.history(remains=remains))


def test_i12_nothing_is_left() -> None:
    assert remaining(Remains(at=9)) == []


def test_i12_the_leases_of_replicas_that_run_are_their_own() -> None:
    assert remaining(Remains(at=9, leases=frozenset({A}), replicas=frozenset({1}))) == []


def test_i12_a_lease_is_left() -> None:
    assert remaining(Remains(at=9, leases=frozenset({A}))) == ["I12"]


def test_i12_an_orphan_is_left() -> None:
    assert remaining(Remains(at=9, processes=frozenset({(2001, 2001)}))) == ["I12"]


def test_i12_a_key_without_a_lease_is_left() -> None:
    written, _ = led()
    written.write(1, (f"{written.keys.election}c", b"{}"))
    assert violated(written.history(remains=Remains(at=9))) == ["I12"]


def suspected() -> Written:
    """r2 takes over from r1, for what it takes for evidence."""
    written, token = led()
    written.stand(1, "r2", B)
    written.extend(1.5, "r1", token)
    key = f"{written.keys.election}{A:x}"
    written.tell(2, "r2", "verdict", key=key, evidence="refused")
    written.write(2, (key, None))
    written.win(2, "r2", B)
    return written


def test_i13_a_verdict_on_a_process_that_is_dead() -> None:
    assert violated(suspected().history()) == []


def test_i13_a_verdict_on_a_process_that_lives_on() -> None:
    written = suspected()
    written.tell(3, "r1", "session_lost", lease=f"{A:x}")
    assert violated(written.history()) == ["I13"]
    written.interventions.append(Interval(Intervention.REJECTION, 1, 3))
    assert violated(written.history()) == []


def test_i13_a_process_that_was_started_again_was_dead() -> None:
    written = suspected()
    written.tell(3, "r1", "replica_started", process=2)
    assert violated(written.history()) == []


def test_i13_in_a_healthy_run_office_is_given_up_and_not_lost() -> None:
    written, _ = led()
    written.stand(1, "r2", B)
    written.resign(2, "r1", A)
    written.win(2, "r2", B)
    assert violated(written.history(), replace(BOUNDS, healthy=True)) == []
    written, _, _ = taken_over()
    assert violated(written.history()) == []
    assert violated(written.history(), replace(BOUNDS, healthy=True)) == ["I13"]


def test_a_violation_names_its_evidence() -> None:
    violation = Violation("I3", "it was written late", {"revision": 7})
    assert str(violation) == "I3: it was written late (revision=7)"
