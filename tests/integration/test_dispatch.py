"""A run is carried out by a term on a real etcd: what the end of an attempt leads to."""

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime, utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import dispatch
from leaderjob.engine.dispatch import Dispatch
from leaderjob.model.job import OnLeaderLoss
from leaderjob.model.run import Outcome
from leaderjob.telemetry.events import Events
from tests.faults.harness.children import workers_of
from tests.support.cuttable import Cuttable
from tests.support.hearing import hearing
from tests.support.office import assigned, seated
from tests.support.runs import admitted, begun, outcomes, read, stored, with_policy


async def test_a_work_directory_that_cannot_be_made_is_a_failure_of_the_run_and_no_lost_leader(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "work").write_text("where a directory should be")

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        done = await Dispatch(seat.office, assigned("j")).carry_out(await stored(seat, admitted()))
        assert (done.outcome, outcomes(done)) == (Outcome.FAILED, [Outcome.FAILED])
        assert done.reason is not None
        assert str(tmp_path / "work") in done.reason
        assert "cannot be made: Not a directory" in done.reason


async def test_a_result_that_etcd_is_away_for_waits_and_is_published_without_another_attempt(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        seated(etcd.endpoint, namespace, tmp_path, through=proxy.endpoint) as seat,
    ):

        async def once_it_is_staged() -> None:
            seat.writer.after = proxy.refuse

        seat.writer.after = once_it_is_staged  # the first write begins the attempt
        with hearing() as heard:
            run = await stored(seat, admitted())
            carrying_out = asyncio.ensure_future(Dispatch(seat.office, assigned("j")).carry_out(run))
            troubled = asyncio.ensure_future(heard.until(Events.CONNECTION_TROUBLE))
            await asyncio.wait([carrying_out, troubled], return_when=asyncio.FIRST_COMPLETED)
            troubled.cancel()
            await proxy.accept()
            done = await carrying_out
        assert outcomes(done) == [Outcome.SUCCEEDED]
        assert heard.all(Events.CONNECTION_TROUBLE)


async def test_an_attempt_that_is_cancelled_while_its_beginning_is_on_its_way_is_handed_over(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        written, answered = asyncio.Event(), asyncio.Event()

        async def be_late() -> None:
            written.set()
            await answered.wait()

        seat.writer.after = be_late
        dispatching = Dispatch(seat.office, assigned("j"))
        carrying_out = asyncio.create_task(dispatching.carry_out(await stored(seat, admitted())))
        await written.wait()
        carrying_out.cancel()
        await asyncio.sleep(0)
        answered.set()
        await asyncio.wait([carrying_out])
        assert carrying_out.cancelled()
        assert not dispatching.busy
        (attempt,) = (await read(seat, "r")).record.attempts
        assert (attempt.outcome, attempt.workers_gone) == (Outcome.ABANDONED, True)


@pytest.mark.parametrize(("asked", "losses"), [(None, 1), ({"in_order": True}, 0), ({"in_order": False}, 1)])
async def test_only_an_attempt_that_is_stopped_for_a_reason_no_job_can_have_caused_is_no_leader_loss(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, asked: dict[str, bool] | None, losses: int
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        stepdown = seat.office.stepdown
        carrying_out = asyncio.create_task(
            Dispatch(seat.office, assigned("j")).carry_out(await stored(seat, admitted()))
        )

        async def stop() -> None:
            if asked is not None:
                stepdown.ask("the test", **asked)
            carrying_out.cancel()

        seat.writer.after = stop
        await asyncio.wait([carrying_out])
        run = (await read(seat, "r")).record
        assert (len(run.attempts), run.leader_losses) == (1, losses)


async def test_a_result_whose_staging_got_no_answer_is_staged_once(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        landed: list[bool] = []

        async def lose_the_next() -> None:
            seat.client.fates, seat.writer.after = ["later"], land

        async def land() -> None:
            landed.extend(await seat.client.deliver_late())

        seat.writer.after = lose_the_next  # the first write begins the attempt
        run = await stored(seat, admitted())
        done = await Dispatch(seat.office, assigned("j")).carry_out(run)
        assert outcomes(done) == [Outcome.SUCCEEDED]
        assert landed == [False]


async def test_an_attempt_that_this_very_term_left_unfinished_is_not_said_to_have_lost_another_leader(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        began_at = time.monotonic()
        done = await Dispatch(seat.office, assigned("j")).carry_out(
            await stored(seat, begun(admitted(), seat.office.token))
        )
        assert time.monotonic() - began_at < 5.0, "there is nobody to wait for"
        assert outcomes(done) == [Outcome.ABANDONED, Outcome.SUCCEEDED]
        assert done.attempts[0].reason == "the leader could not go on with it, and its log says why"


async def test_a_work_directory_that_could_not_be_made_is_tried_again_as_often_as_the_job_asks(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "work"
    in_the_way.write_text("where a directory should be")

    async def mend() -> None:
        in_the_way.unlink()

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        seat.writer.after = mend  # the attempt has been recorded: too late for it
        done = await Dispatch(seat.office, with_policy(retries=1)).carry_out(await stored(seat, admitted()))
        assert outcomes(done) == [Outcome.FAILED, Outcome.SUCCEEDED]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"max_leader_losses": 1}, "abandoned 2 times, more than the job allows; the last time the leader "),
        (
            {"on_leader_loss": OnLeaderLoss.ABANDON},
            "its log says why, and the job asks for at most one start",
        ),
    ],
    ids=["too often", "at most once"],
)
async def test_a_run_that_its_own_term_cannot_go_on_with_is_given_up_in_the_end_and_blames_no_lost_leader(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, policy: dict[str, Any], said: str
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        first = begun(admitted(), seat.office.token).end_attempt(Outcome.ABANDONED, now=utcnow())
        left = await stored(seat, begun(first, seat.office.token))
        done = await Dispatch(seat.office, with_policy(**policy)).carry_out(left)
        assert (done.outcome, len(done.attempts)) == (Outcome.ABANDONED, 2)
        assert said in str(done.reason)
        assert "lost" not in str(done.reason)


async def test_the_next_worker_comes_up_while_the_former_one_may_still_be_alive_but_gets_no_work(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        former = admitted().begin(token=1, replica="r2", ttl_s=3.0, now=utcnow())
        left = await stored(seat, former)
        carrying = asyncio.create_task(Dispatch(seat.office, assigned("j")).carry_out(left))
        while not workers_of(os.getpid()):
            await asyncio.sleep(0.01)
        (held_up,) = (await read(seat, "r")).record.attempts
        assert held_up.ended is None, "the hold is not over"
        assert boottime() - seat.office.leadership.won_at < 3.0 * 1.01
        done = await carrying
        assert outcomes(done) == [Outcome.ABANDONED, Outcome.SUCCEEDED]


async def test_no_worker_is_started_ahead_of_a_run_that_is_to_be_given_up(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(dispatch, "WorkerAhead")

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        left = await stored(seat, begun(admitted(), 1).end_attempt(Outcome.ABANDONED, now=utcnow()))
        done = await Dispatch(seat.office, with_policy(on_leader_loss=OnLeaderLoss.ABANDON)).carry_out(left)
        assert outcomes(done) == [Outcome.ABANDONED]


async def test_no_attempt_begins_that_would_be_stopped_at_once_for_lack_of_trust(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        limits = replace(seat.office.limits, kill_grace_s=5.0)
        office = replace(seat.office, limits=limits)
        office.leadership.trusted_until = boottime() + 4.0  # until the next keepalive is confirmed
        done = await Dispatch(office, assigned("j")).carry_out(await stored(seat, admitted()))
        assert outcomes(done) == [Outcome.SUCCEEDED]
