"""How a call is tried: for how long each time, and what it comes to."""

import pytest

from leaderjob.etcd import AmbiguousWrite, EtcdError, EtcdUnavailable, NoSpace, RequestRefused
from leaderjob.etcd.tries import Tries
from tests.support.loop import run_async


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def shares(tries: Tries, clock: Clock, *, each_takes_s: float) -> list[float]:
    """For how long each try may go on, when all fail after ``each_takes_s`` or when their time is up."""

    async def main() -> list[float]:
        found = []
        while (timeout_s := await tries.another()) is not None:
            found.append(round(timeout_s, 3))
            clock.now_s += min(timeout_s, each_takes_s)
            tries.failed("a:1", "no answer", may_be_done=False)
        return found

    return run_async(main())


@pytest.mark.parametrize(
    ("within_s", "each_takes_s", "expected"),
    [
        (None, 60.0, [2.0] * 6),
        (3.0, 60.0, [1.0, 1.0, 1.0]),
        (60.0, 60.0, [2.0] * 6),
        (3.0, 0.0, [1.0, 1.5, 2.0, 1.0, 1.5, 2.0]),
        (0.0, 60.0, []),
        (-1.0, 60.0, []),
    ],
)
def test_each_try_has_an_equal_share_of_the_time_that_is_left(
    within_s: float | None, each_takes_s: float, expected: list[float]
) -> None:
    clock = Clock()
    tries = Tries(["a:1", "b:1", "c:1"], try_timeout_s=2.0, within_s=within_s, writes=False, clock=clock)
    assert shares(tries, clock, each_takes_s=each_takes_s) == expected


async def test_a_token_that_is_replaced_costs_no_try_but_one_that_is_refused_again_does() -> None:
    tries = Tries(["a:1"], try_timeout_s=2.0, within_s=None, writes=False)
    count = 0
    while await tries.another() is not None:
        tries.token_refused("a:1", "invalid auth token")
        count += 1
    assert count == 3
    assert "invalid auth token" in str(tries.outcome())


@pytest.mark.parametrize(
    ("writes", "may_be_done", "refusal", "expected"),
    [
        (False, True, None, EtcdUnavailable),
        (True, False, None, EtcdUnavailable),
        (True, True, None, AmbiguousWrite),
        (True, True, NoSpace(), AmbiguousWrite),
        (True, True, RequestRefused("permission denied"), AmbiguousWrite),
        (True, False, NoSpace(), NoSpace),
        (False, True, NoSpace(), NoSpace),
    ],
)
def test_a_write_that_got_no_answer_is_ambiguous_whatever_later_tries_were_answered(
    writes: bool, may_be_done: bool, refusal: EtcdError | None, expected: type[EtcdError]
) -> None:
    tries = Tries(["a:1", "b:1"], try_timeout_s=2.0, within_s=None, writes=writes)
    tries.failed("a:1", "no answer in time", may_be_done=may_be_done)
    tries.failed("b:1", "connection refused", may_be_done=False)
    outcome = tries.outcome(refusal)
    assert type(outcome) is expected
    if refusal is not None and expected is AmbiguousWrite:
        assert str(refusal) in str(outcome)


def test_a_call_that_has_no_time_says_so() -> None:
    tries = Tries(["a:1"], try_timeout_s=2.0, within_s=-0.5, writes=True)
    outcome = tries.outcome()
    assert isinstance(outcome, EtcdUnavailable)
    assert "no time to ask" in str(outcome)
