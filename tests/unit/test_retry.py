"""How long a run waits before its next attempt."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderjob.engine.retry import retry_pause_s


def pause_s(attempts: int, *, asked_s: float | None = None, record_bytes: int = 1000) -> float:
    return retry_pause_s(attempts=attempts, failures=attempts, asked_s=asked_s, record_bytes=record_bytes)


def test_the_first_ten_attempts_may_follow_each_other_at_once() -> None:
    assert [pause_s(attempt, asked_s=0.0) for attempt in (1, 9, 10, 100_000)] == [0.0, 0.0, 1.0, 1.0]


def test_pauses_double_up_to_a_minute_however_often_it_is_tried() -> None:
    assert [pause_s(attempt) for attempt in (1, 2, 3, 7, 100_000)] == [1.0, 2.0, 4.0, 60.0, 60.0]


@given(st.floats() | st.integers(), st.integers(1, 1_000_000))
def test_any_pause_that_a_job_asks_for_can_be_waited_for(asked_s: float, attempts: int) -> None:
    waited_s = pause_s(attempts, asked_s=asked_s)
    assert math.isfinite(waited_s)
    assert 0.0 <= waited_s <= 366 * 86400


@pytest.mark.parametrize("record_bytes", [1_000, 20_000, 1_500_000])
def test_one_run_writes_less_than_4_mib_a_minute_in_the_long_run(record_bytes: int) -> None:
    written_bytes = 2 * record_bytes
    assert written_bytes * 60 / pause_s(10, asked_s=0.0, record_bytes=record_bytes) <= 4 * 2**20
