"""I1 to I4, on histories written by hand: what is accepted, and in whose name."""

from tests.faults.history.handwritten import A, B, led, taken_over, violated


def test_i1_two_publications_for_one_fire() -> None:
    written, token = led()
    run = written.begin(1, written.admit(1, "job", 10), token, "r1")
    written.publish(2, run, token, 1)
    again = written.publish(3, run, token, 2)
    assert again.version == 2
    assert violated(written.history()) == ["I1"]


def test_i1_two_fires_are_two_publications() -> None:
    written, token = led()
    for version in (1, 2):
        run = written.begin(version, written.admit(version, "job", 10 * version), token, "r1")
        written.publish(version + 0.5, run, token, version)
    assert violated(written.history()) == []


def test_i2_a_write_of_a_candidate_that_is_still_queued() -> None:
    written, _ = led()
    second = written.stand(1, "r2", B)
    written.stage(2, written.admit(2, "job", 10), second)
    assert violated(written.history()) == ["I2"]


def test_i2_a_token_that_nobody_ever_had() -> None:
    written, _ = led()
    written.stage(2, written.admit(2, "job", 10), 4711)
    assert violated(written.history()) == ["I2"]


def test_i3_a_write_after_the_end_of_its_term() -> None:
    written, first, _ = taken_over()
    written.stage(11, written.admit(11, "job", 10), first)
    assert violated(written.history()) == ["I3"]


def test_i2_and_i3_a_write_of_a_term_that_is_over_after_one_of_the_next() -> None:
    written, first, second = taken_over()
    written.stage(11, written.admit(11, "job", 10), second)
    written.stage(12, written.admit(12, "job", 20), first)
    assert violated(written.history()) == ["I2", "I3"]


def test_i4_a_key_of_the_election_that_another_process_writes() -> None:
    written, _ = led()
    written.stand(1, "r1", A, incarnation="another")
    assert "I4" in violated(written.history())


def test_i4_one_term_that_two_replicas_have_won() -> None:
    written, token = led()
    written.tell(1, "r2", "term_won", term=token, revision=3, trusted_until=8.0)
    assert violated(written.history()) == ["I4"]
