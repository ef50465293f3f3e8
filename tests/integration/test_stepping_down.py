"""What a term has under way when it is to step down, and what it begins no more."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import dispatch
from leaderjob.engine.dispatch import Dispatch
from leaderjob.engine.office import Office
from leaderjob.engine.preference import give_way
from leaderjob.execution.attempt import AttemptEnd
from leaderjob.model.member import Candidate, Member, Priority, Role
from leaderjob.model.run import Outcome
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
from tests.support.office import Seat, assigned, going_on, seated
from tests.support.runs import admitted, outcomes, stored, with_policy


def failing(monkeypatch: pytest.MonkeyPatch, *, retry_after_s: float, meanwhile: Callable[[], None]) -> None:
    """Let each attempt fail, and ask to be tried again."""

    async def attempt(*args: Any, on_gone: Any, **options: Any) -> AttemptEnd:
        meanwhile()
        on_gone(True)
        return AttemptEnd(Outcome.FAILED, "as made up", retry_after_s=retry_after_s)

    monkeypatch.setattr(dispatch, "run_attempt", attempt)


@pytest.mark.timeout_s(15)
async def test_a_run_that_waits_for_its_retry_is_not_under_way(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        dispatching = Dispatch(seat.office, with_policy(retries=9))
        busy: list[bool] = []
        failing(monkeypatch, retry_after_s=3600.0, meanwhile=lambda: busy.append(dispatching.busy))
        with hearing() as heard:
            carrying = asyncio.create_task(dispatching.carry_out(await stored(seat, admitted())))
            await heard.until(Events.ATTEMPT_FAILED)
            await dispatching.idle()
        assert (busy, dispatching.busy, carrying.done()) == ([True], False, False)
        carrying.cancel()
        await asyncio.wait([carrying])


async def test_no_retry_begins_when_the_term_is_to_step_down(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        failing(monkeypatch, retry_after_s=0.0, meanwhile=lambda: seat.office.stepdown.ask("the test"))
        left = await Dispatch(seat.office, with_policy(retries=9)).carry_out(await stored(seat, admitted()))
        assert (left.outcome, outcomes(left)) == (None, [Outcome.FAILED])


async def test_a_run_that_is_held_back_is_not_under_way_nor_begins_when_the_term_is_to_step_down(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        held = admitted().begin(token=1, replica="r0", ttl_s=6.0, now=utcnow())
        dispatching = Dispatch(seat.office, assigned("j"))
        with hearing() as heard:
            carrying = asyncio.create_task(dispatching.carry_out(await stored(seat, held)))
            await heard.until(Events.HOLDING_BACK)
        assert not dispatching.busy
        seat.office.stepdown.ask("the test")
        left = await carrying
        assert (left.outcome, outcomes(left)) == (None, [Outcome.ABANDONED])


class Work:
    """A part of a term that is busy when the test says so; ``awaited`` is set when somebody waits for its end."""

    def __init__(self) -> None:
        self.awaited = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        return not self._idle.is_set()

    async def idle(self) -> None:
        self.awaited.set()
        await self._idle.wait()

    async def begin(self) -> None:
        self._idle.clear()

    def end(self) -> None:
        self._idle.set()


async def beside_a_preferred_one(seat: Seat) -> Office:
    """The office, which waits for a moment before it gives way, and in the line a preferred replica."""
    wanted = Member(
        replica="wanted",
        incarnation="2",
        role=Role.FOLLOWER,
        release="0",
        host="h",
        pid=1,
        started=utcnow(),
        addresses={},
        priority=Priority.PREFERRED,
    )
    candidate = Candidate(replica="wanted", incarnation="2", addresses={}, since=utcnow())
    await seat.outside.put(seat.keys.member("wanted"), wanted.to_bytes())
    await seat.outside.put(f"{seat.keys.election}ffff", candidate.to_bytes())
    brief = SimpleNamespace(term=seat.office.leadership.term, session=SimpleNamespace(ttl_s=0.01))
    return replace(seat.office, leadership=brief)


async def awaited_or_given_up(work: Work, office: Office) -> None:
    either = [asyncio.ensure_future(work.awaited.wait()), asyncio.ensure_future(office.stepdown.wait())]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    for each in either:
        each.cancel()
    await asyncio.wait(either)


@pytest.mark.timeout_s(15)
async def test_office_is_not_given_up_for_a_preferred_replica_while_one_job_ends_and_another_begins(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        office, first, second = await beside_a_preferred_one(seat), Work(), Work()
        await second.begin()
        async with going_on(give_way(office, [first, second])):
            await second.awaited.wait()
            first.awaited.clear()
            await first.begin()
            second.end()
            await awaited_or_given_up(first, office)
            assert not office.stepdown.asked
            assert seat.writer.writes == 0, "nor is anybody asked to queue again"
            first.end()
            assert await office.stepdown.wait() == "wanted is preferred"


@pytest.mark.timeout_s(15)
async def test_office_is_not_given_up_for_a_preferred_replica_when_a_run_begins_as_the_line_is_put_in_order(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        office, work = await beside_a_preferred_one(seat), Work()
        seat.writer.before = work.begin
        async with going_on(give_way(office, [work])):
            await awaited_or_given_up(work, office)
            assert not office.stepdown.asked
            assert await seat.outside.get(seat.keys.transfer) is None, "nobody is asked to queue again"
            work.end()
            assert await office.stepdown.wait() == "wanted is preferred"
