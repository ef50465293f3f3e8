"""Processes that an attempt left behind: who is told of them, and who waits for them."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime, utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import dispatch
from leaderjob.engine.dispatch import Dispatch
from leaderjob.execution.attempt import AttemptEnd
from leaderjob.execution.protocol import WorkerRequest
from leaderjob.model.run import Outcome
from leaderjob.recipes import Timing
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
from tests.support.office import assigned, seated
from tests.support.runs import admitted, outcomes, read, stored, with_policy
from tests.support.streams import run_with_streams

_WAITED_FOR = Timing(ttl_s=5, margin_s=1, keepalive_s=0.5)
"""For tests that wait for the TTL to pass."""


def test_a_broken_part_that_left_processes_behind_does_not_say_that_they_are_gone(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[float] = []

    async def attempt(*args: Any, on_gone: Any, **options: Any) -> AttemptEnd:
        started.append(boottime())
        on_gone(len(started) > 1)
        if len(started) == 1:
            raise ZeroDivisionError("as made up")
        return AttemptEnd(Outcome.SUCCEEDED)

    monkeypatch.setattr(dispatch, "run_attempt", attempt)

    async def main() -> None:
        async with seated(etcd.endpoint, namespace, tmp_path, timing=_WAITED_FOR) as seat:
            dispatching = Dispatch(seat.office, assigned("j"))
            with pytest.raises(ZeroDivisionError):
                await dispatching.carry_out(await stored(seat, admitted()))
            done = await dispatching.carry_out(await read(seat, "r"))
            assert [attempt.workers_gone for attempt in done.attempts] == [False, True]
            assert started[1] - started[0] >= seat.office.leadership.session.ttl_s * 1.01

    run_with_streams(main())


@pytest.mark.parametrize("result", ["nothing", "a file", "a pipe, which cannot be published"])
async def test_whatever_becomes_of_a_result_the_next_term_learns_that_processes_were_left(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str
) -> None:
    outcome = Outcome.FAILED if "pipe" in result else Outcome.SUCCEEDED

    async def attempt(request: WorkerRequest, worker: Any, *, on_gone: Any, **options: Any) -> AttemptEnd:
        if "file" in result:
            (request.artifact_dir / "file").write_text("content")
        elif "pipe" in result:
            os.mkfifo(request.artifact_dir / "pipe")
        on_gone(False)
        return AttemptEnd(Outcome.SUCCEEDED, reaped=False)

    monkeypatch.setattr(dispatch, "run_attempt", attempt)

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        done = await Dispatch(seat.office, assigned("j")).carry_out(await stored(seat, admitted()))
        recorded = (await read(seat, "r")).record
        assert recorded == done
        assert (recorded.outcome, outcomes(recorded)) == (outcome, [outcome])
        assert (recorded.version is not None) == ("file" in result)
        assert not recorded.attempts[0].workers_gone


async def test_processes_that_an_older_term_left_of_another_run_are_waited_for_as_well(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    ttl_s = 3.0

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        former = admitted("former").begin(token=1, replica="r2", ttl_s=ttl_s, now=utcnow())
        left = await stored(seat, former.finish(Outcome.FAILED, now=utcnow(), workers_gone=False))
        await seat.feed.until(lambda view: view.revision >= left.mod_revision)
        done = await Dispatch(seat.office, assigned("j")).carry_out(await stored(seat, admitted()))
        assert done.outcome is Outcome.SUCCEEDED
        assert boottime() - seat.office.leadership.won_at >= ttl_s * 1.01


async def test_processes_that_a_term_in_between_has_waited_for_hold_nobody_back_again(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        former = admitted("former").begin(token=1, replica="r2", ttl_s=60.0, now=utcnow())
        await stored(seat, former.finish(Outcome.FAILED, now=utcnow(), workers_gone=False))
        since = admitted("since").begin(token=2, replica="r3", ttl_s=60.0, now=utcnow())
        last = await stored(seat, since.finish(Outcome.SUCCEEDED, now=utcnow()))
        await seat.feed.until(lambda view: view.revision >= last.mod_revision)
        with hearing() as heard:
            done = await Dispatch(seat.office, assigned("j")).carry_out(await stored(seat, admitted()))
        assert done.outcome is Outcome.SUCCEEDED
        assert heard.all(Events.HOLDING_BACK) == []


@pytest.mark.parametrize("reaped", [True, False])
async def test_who_is_cancelled_records_the_end_of_the_attempt_and_whether_its_processes_are_gone(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reaped: bool
) -> None:
    works = asyncio.Event()

    async def attempt(*args: Any, on_gone: Any, **options: Any) -> AttemptEnd:
        works.set()
        try:
            await asyncio.Event().wait()
        finally:
            on_gone(reaped)
        raise AssertionError("nobody sets it")

    monkeypatch.setattr(dispatch, "run_attempt", attempt)
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        dispatching = Dispatch(seat.office, assigned("j"))
        carrying = asyncio.create_task(dispatching.carry_out(await stored(seat, admitted())))
        await works.wait()
        carrying.cancel()
        await asyncio.wait([carrying])
        assert carrying.cancelled()
        (handed_over,) = (await read(seat, "r")).record.attempts
        assert (handed_over.outcome, handed_over.workers_gone) == (Outcome.ABANDONED, reaped)


@pytest.mark.parametrize("same_run", [True, False], ids=["retry", "next run"])
async def test_where_processes_were_left_the_next_attempt_waits_for_longer_than_the_ttl(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_run: bool
) -> None:
    """No process can be made that outlives SIGKILL, so the end of the first attempt is made up."""
    started: list[float] = []

    async def attempt(*args: Any, on_gone: Any, **options: Any) -> AttemptEnd:
        started.append(boottime())
        reaped = len(started) > 1
        on_gone(reaped)
        return AttemptEnd(
            Outcome.SUCCEEDED if reaped else Outcome.FAILED,
            "as made up",
            retry_after_s=0.0,
            permanent=not same_run,
            reaped=reaped,
        )

    monkeypatch.setattr(dispatch, "run_attempt", attempt)

    async with seated(etcd.endpoint, namespace, tmp_path, timing=_WAITED_FOR) as seat:
        dispatching = Dispatch(seat.office, with_policy(retries=1))
        done = await dispatching.carry_out(await stored(seat, admitted()))
        assert done.attempts[0].workers_gone is False
        if not same_run:
            done = await dispatching.carry_out(await stored(seat, admitted("next")))
        assert done.outcome is Outcome.SUCCEEDED
        ttl_s = seat.office.leadership.session.ttl_s
        assert started[1] - started[0] >= ttl_s * 1.01
