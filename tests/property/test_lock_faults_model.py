"""Random acquisitions, lost answers, cuts, resets and revocations: no two hold what only one may, and nothing is left.

Other than in ``test_lock_model.py`` a step does not come to its end before the next one begins, so it is not known who
holds it then. But no more than may do so by their own account, at the instant that one comes in; and at rest those
hold it who have to.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Protocol

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.property.lockable import FOLDERS, Worker, Workplace
from tests.property.profile import profile
from tests.support.candidates import SHORT
from tests.support.etcd import etcdctl
from tests.support.streams import run_with_streams


class Step(Protocol):
    async def take(self, place: Workplace) -> None: ...


@dataclass(frozen=True)
class _One:
    number: int

    def of(self, place: Workplace) -> Worker:
        return place.workers[self.number % len(place.workers)]


@dataclass(frozen=True)
class Want(_One):
    async def take(self, place: Workplace) -> None:
        self.of(place).work()


@dataclass(frozen=True)
class Stop(_One):
    async def take(self, place: Workplace) -> None:
        await self.of(place).stop()


@dataclass(frozen=True)
class HandOver(_One):
    async def take(self, place: Workplace) -> None:
        self.of(place).hand_over()


@dataclass(frozen=True)
class GiveUp(_One):
    async def take(self, place: Workplace) -> None:
        self.of(place).give_up()


@dataclass(frozen=True)
class HandOverUnanswered(_One):
    """It releases, and stands again, and no answer arrives."""

    requests: bool

    async def take(self, place: Workplace) -> None:
        worker = self.of(place)
        worker.proxy.cut(requests=self.requests, answers=True)
        worker.hand_over()
        await asyncio.sleep(0.05)
        worker.proxy.reset()
        worker.proxy.heal()


@dataclass(frozen=True)
class Revoke(_One):
    async def take(self, place: Workplace) -> None:
        await place.take_away(self.of(place))


@dataclass(frozen=True)
class Cut(_One):
    requests: bool
    answers: bool

    async def take(self, place: Workplace) -> None:
        self.of(place).proxy.cut(requests=self.requests, answers=self.answers)


@dataclass(frozen=True)
class Heal(_One):
    lost: bool

    async def take(self, place: Workplace) -> None:
        proxy = self.of(place).proxy
        if self.lost:
            proxy.reset()
        proxy.heal()


@dataclass(frozen=True)
class Reset(_One):
    async def take(self, place: Workplace) -> None:
        self.of(place).proxy.reset()


@dataclass(frozen=True)
class Pass:
    seconds: float

    async def take(self, place: Workplace) -> None:
        await asyncio.sleep(self.seconds)


_NUMBERS = st.integers(0, 3)
_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Want, _NUMBERS),
    st.builds(Want, _NUMBERS),
    st.builds(HandOver, _NUMBERS),
    st.builds(GiveUp, _NUMBERS),
    st.builds(HandOverUnanswered, _NUMBERS, st.booleans()),
    st.builds(Stop, _NUMBERS),
    st.builds(Revoke, _NUMBERS),
    st.builds(Cut, _NUMBERS, st.booleans(), st.booleans()),
    st.builds(Heal, _NUMBERS, st.booleans()),
    st.builds(Reset, _NUMBERS),
    st.builds(Pass, st.sampled_from([0.01, 0.05, 0.3])),
)
_WRITES = [True, False, False, True]


async def _live_through(server: EmbeddedEtcd, kind: str, count: int, steps: list[Step]) -> None:
    async with Workplace(kind, server.endpoint, f"test-{secrets.token_hex(4)}", _WRITES[:count]) as place:
        for step in steps:
            await step.take(place)
            assert place.wrong == []
        for number in range(count):
            await Heal(number, lost=False).take(place)
        await place.comes_to_rest()
        for worker in place.workers:
            await worker.stop()
        await place.comes_to_rest()
        assert place.wrong == []


@profile(examples=3)
@given(count=st.integers(2, 4), steps=st.lists(_STEPS, min_size=5, max_size=14))
@example(
    count=2, steps=[Want(0), Pass(0.1), Want(1), Cut(0, True, True), Pass(1.5), Pass(1.5), Heal(0, False)]
)
@example(
    count=3,
    steps=[Want(0), Want(1), Pass(0.1), HandOverUnanswered(0, False), HandOverUnanswered(1, True), Want(2)],
)
@example(
    count=2,
    steps=[Want(0), Pass(0.1), Want(1), Cut(1, False, True), Stop(1), Heal(1, True), Stop(0), Want(0)],
)
@example(count=3, steps=[Want(0), Pass(0.1), Want(1), Want(2), Pass(0.1), GiveUp(1), Stop(0), Pass(0.1)])
@example(count=2, steps=[Cut(0, False, True), Want(0), Pass(0.3), Want(1), Heal(0, True), Stop(0), Want(0)])
def _hold_against_the_model(server: EmbeddedEtcd, kind: str, count: int, steps: list[Step]) -> None:
    run_with_streams(_live_through(server, kind, count, steps), timeout_s=90)


@pytest.mark.parametrize("kind", FOLDERS)
def test_no_more_hold_it_than_may_and_nothing_is_left(server: EmbeddedEtcd, kind: str) -> None:
    _hold_against_the_model(server, kind)
    deadline = time.monotonic() + 3 * SHORT.ttl_s
    while "found 0 leases" not in (listed := etcdctl(server.endpoint, "lease", "list")):
        assert time.monotonic() < deadline, f"somebody keeps these alive: {listed}"
        time.sleep(0.1)
