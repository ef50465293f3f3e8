"""The hold rule, and the pause between attempts, as functions of values."""

from datetime import UTC, datetime

import pytest

from leaderjob.engine.dispatch import backoff_s
from leaderjob.engine.hold import hold_until
from leaderjob.model.run import Attempt

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def attempt(*, workers_gone: bool) -> Attempt:
    return Attempt(number=1, token=4, replica="r1", ttl_s=10.0, started=NOW, workers_gone=workers_gone)


def test_workers_of_a_lost_leader_are_waited_for_longer_than_its_ttl() -> None:
    assert hold_until(attempt(workers_gone=False), since=100.0) == pytest.approx(110.1)


def test_nobody_waits_for_workers_that_are_recorded_as_gone() -> None:
    assert hold_until(attempt(workers_gone=True), since=100.0) == 100.0


def test_the_pause_between_attempts_doubles_up_to_a_minute() -> None:
    assert [backoff_s(failures) for failures in (1, 2, 3, 6, 7, 60)] == [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
