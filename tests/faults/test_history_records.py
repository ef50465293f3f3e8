"""I7 to I10, on histories written by hand: whether records, views, bytes and fires are as they should be."""

from dataclasses import replace
from typing import Any

import pytest

from leaderjob.etcd import KeyValue
from leaderjob.model.run import FireRange, Outcome
from tests.faults.history import (
    Served,
)
from tests.faults.history.handwritten import DIGEST, A, Written, instant, led, violated

OTHER_DIGEST = "blake3:" + 64 * "1"


def test_i7_a_publication_that_was_told_and_is_not_recorded() -> None:
    written, token = led()
    run = written.begin(1, written.admit(1, "job", 10), token, "r1")
    written.publish(2, run, token, 1)
    written.tell(2, "r1", "published", job="job", run=run.id, version=1, term=token)
    assert violated(written.history()) == []
    written.tell(3, "r1", "published", job="job", run=run.id, version=2, term=token)
    assert violated(written.history()) == ["I7"]


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("run_admitted", {"run": "another"}),
        ("run_started", {"attempt": 2}),
        ("run_finished", {"outcome": "failed"}),
    ],
)
def test_i7_what_was_told_of_a_run_is_recorded(event: str, fields: dict[str, object]) -> None:
    written, token = led()
    run = written.begin(1, written.admit(1, "job", 10), token, "r1")
    written.write(2, (written.keys.run("job", run.id), run.finish(Outcome.SUCCEEDED, now=instant(2))))
    told: dict[str, Any] = {
        "job": "job",
        "run": run.id,
        "attempt": 1,
        "term": token,
        "outcome": "succeeded",
    }
    written.tell(2, "r1", event, **told)
    assert violated(written.history()) == []
    written.tell(2, "r1", event, **(told | fields))
    assert violated(written.history()) == ["I7"]


@pytest.mark.parametrize("done", [True, False])
def test_i7_a_write_is_what_it_was_settled_to_be(done: bool) -> None:
    written, _ = led()
    key = f"{written.keys.root}value"
    written.write(1, (key, b"one"))
    written.tell(1, "w", "write_settled", key=key, value="one", done=True)
    written.tell(1, "w", "write_settled", key=key, value="two", done=False)
    assert violated(written.history()) == []
    written.tell(2, "w", "write_settled", key=key, value="two" if done else "one", done=done)
    assert violated(written.history()) == ["I7"]


def test_i7_a_run_names_a_version_of_its_own() -> None:
    written, token = led()
    run = written.begin(1, written.admit(1, "job", 10), token, "r1")
    done = run.finish(Outcome.SUCCEEDED, now=instant(2), version=3)
    written.write(2, (written.keys.run("job", run.id), done))
    assert violated(written.history()) == ["I7"]


def published(count: int) -> tuple[Written, int]:
    """r1 leads, and has published so many versions, with sequences alike."""
    written, token = led()
    for version in range(1, count + 1):
        run = written.begin(version, written.admit(version, "job", 10 * version), token, "r1")
        written.publish(version + 0.5, run, token, version)
    return written, token


def test_i8_a_follower_that_activates_an_older_version() -> None:
    written, _ = published(2)
    for version in (1, 2, 2):
        written.tell(3, "r1", "activated", job="job", version=version)
    assert violated(written.history()) == []
    written.tell(4, "r1", "activated", job="job", version=1)
    assert violated(written.history()) == ["I8"]


def test_i8_a_rollback_is_a_later_sequence_of_an_older_version() -> None:
    written, token = published(2)
    back = written.begin(4, written.admit(4, "job", 30), token, "r1")
    written.tell(4, "r1", "activated", job="job", version=2)
    written.publish(5, back, token, 3)
    pointer = written.state[written.keys.pointer("job")]
    old = written.state[written.keys.version("job", 1)].value.replace(b'"sequence":1', b'"sequence":4')
    assert pointer.value != old
    written.write(6, (written.keys.pointer("job"), old))
    written.tell(6, "r1", "activated", job="job", version=1)
    assert "I8" not in violated(written.history())


def test_i8_a_follower_whose_record_goes_back() -> None:
    written, _ = published(2)
    written.hold(4, "r1", A, "job", 2)
    assert violated(written.history()) == []
    written.hold(5, "r1", A, "job", 1)
    assert violated(written.history()) == ["I8"]


def test_i8_a_follower_that_shows_another_version_at_rest() -> None:
    written, _ = published(2)
    written.hold(4, "r1", A, "job", 1)
    assert violated(written.history(at_rest=False)) == []
    assert violated(written.history(at_rest=True)) == ["I8"]


def test_i8_a_watch_that_shows_something_else_than_a_read() -> None:
    written, _ = led()
    key = f"{written.keys.root}value"
    rest = {**written.state, key: KeyValue(key, b"", 9, 9, 1, 0)}
    assert violated(written.history(rest=rest)) == ["I8"]


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (Served("r1", "job", DIGEST, whole=True), []),
        (Served("r1", "job", DIGEST, whole=False), ["I9"]),
        (Served("r1", "job", DIGEST, whole=True, run="another"), ["I9"]),
        (Served("r1", "job", OTHER_DIGEST, whole=True), ["I9"]),
    ],
    ids=["whole", "damaged", "of another run", "under another digest"],
)
def test_i9_the_bytes_are_those_that_the_pointer_names(served: Served, expected: list[str]) -> None:
    written, _ = published(1)
    written.served.append(served)
    assert violated(written.history()) == expected


def test_i9_pointer_and_version_have_one_digest() -> None:
    written, token = published(1)
    again = written.state[written.keys.pointer("job")].value.replace(b"blake3:0", b"blake3:1")
    written.write(5, (written.keys.pointer("job"), again))
    assert token
    assert violated(written.history()) == ["I9"]


def test_i10_a_fire_that_the_watermark_passes_without_a_record() -> None:
    written, _ = led()
    written.watermark(1, "job", 0)
    written.admit(2, "job", 10)
    written.watermark(2, "job", 10)
    assert violated(written.history()) == []
    written.admit(3, "job", 30)
    written.watermark(3, "job", 30)
    assert violated(written.history()) == ["I10"]


def test_i10_a_range_accounts_for_all_that_it_spans() -> None:
    written, _ = led()
    written.watermark(1, "job", 0)
    run = written.admit(2, "job", 30)
    fires = FireRange(first=instant(10), last=instant(30), count=3)
    written.write(2, (written.keys.run("job", run.id), run.model_copy(update={"fires": fires})))
    written.changes[-1] = replace(written.changes[-1], before=None)
    written.watermark(2, "job", 30)
    assert violated(written.history()) == []


def test_i10_a_watermark_that_goes_back() -> None:
    written, _ = led()
    written.watermark(1, "job", 10)
    written.watermark(2, "job", 0)
    assert violated(written.history()) == ["I10"]


def test_i10_a_run_without_an_end_at_rest() -> None:
    written, _ = led()
    written.admit(1, "job", 10)
    assert violated(written.history(at_rest=False)) == []
    assert violated(written.history(at_rest=True)) == ["I10"]
