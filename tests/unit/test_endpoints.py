"""Which endpoint is tried next."""

import pytest

from leaderjob.endpoints import parse_endpoints
from leaderjob.errors import SettingsError
from leaderjob.etcd.endpoints import SET_ASIDE_S, Endpoints


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def three(clock: Clock) -> Endpoints:
    return Endpoints(parse_endpoints(["a:1", "b:1", "c:1"]), clock=clock)


def test_the_first_one_is_used_until_it_fails(three: Endpoints) -> None:
    assert three.in_use == "a:1"
    three.failed("a:1")
    assert three.in_use == "b:1"


def test_what_fails_elsewhere_moves_nobody(three: Endpoints) -> None:
    three.failed("b:1")
    assert three.in_use == "a:1"


def test_one_that_failed_is_passed_over_while_it_is_set_aside(three: Endpoints, clock: Clock) -> None:
    three.failed("b:1")
    clock.now_s += SET_ASIDE_S - 0.1
    three.failed("a:1")
    assert three.in_use == "c:1"


def test_after_a_while_it_is_tried_again(three: Endpoints, clock: Clock) -> None:
    three.failed("b:1")
    clock.now_s += SET_ASIDE_S
    three.failed("a:1")
    assert three.in_use == "b:1"


def test_where_all_have_failed_they_are_tried_in_turn(three: Endpoints, clock: Clock) -> None:
    used = []
    for _ in range(6):
        used.append(three.in_use)
        three.failed(three.in_use)
        clock.now_s += 0.1
    assert used == ["a:1", "b:1", "c:1"] * 2


def test_a_single_one_is_used_whatever_it_does() -> None:
    one = Endpoints(parse_endpoints(["a:1"]))
    one.failed("a:1")
    assert one.in_use == "a:1"


def test_none_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match="name at least one HOST:PORT"):
        Endpoints([])
