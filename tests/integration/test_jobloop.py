"""The loop of one job, begun again within a term: it goes by what the term wrote, not by what it has seen of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.definition import Assignment
from leaderjob.engine.jobloop import JobLoop
from leaderjob.model.command import Command
from leaderjob.model.ids import fire_id
from leaderjob.model.job import Timetable
from leaderjob.model.run import Outcome, State
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events
from tests.support.cuttable import Cuttable
from tests.support.hearing import hearing
from tests.support.office import Seat, assigned, going_on, seated, trigger
from tests.support.runs import admitted


@asynccontextmanager
async def lagging(
    etcd: EmbeddedEtcd, namespace: str, directory: Path
) -> AsyncIterator[tuple[Seat, Cuttable]]:
    """An office whose feed is cut off by the proxy, once it is told to, until the next write was done."""
    async with (
        Cuttable(etcd.endpoint) as proxy,
        seated(etcd.endpoint, namespace, directory, fed_through=proxy.endpoint) as seat,
    ):

        async def heal() -> None:
            proxy.heal()  # what was held arrives in a later turn of the event loop

        seat.writer.after = heal
        yield seat, proxy


@pytest.mark.timeout_s(15)
async def test_a_loop_that_begins_again_carries_out_what_its_term_admitted_a_moment_ago(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with lagging(etcd, namespace, tmp_path) as (seat, proxy):
        proxy.cut()
        await seat.outside.put(seat.keys.run("j", "r"), admitted().to_bytes())
        with hearing() as heard:
            async with going_on(JobLoop(seat.office, assigned("j")).run()):
                await heard.until(Events.RUN_FINISHED)  # and it is tidied up after it
        view = await seat.feed.until(_is_over)
        found = view.get(Kind.RUN, "j", "r")
        assert found is not None
        assert found.record.outcome is Outcome.SUCCEEDED


@pytest.mark.timeout_s(15)
async def test_a_loop_that_begins_again_leaves_alone_what_its_term_ended_a_moment_ago(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with lagging(etcd, namespace, tmp_path) as (seat, proxy):
        key = seat.keys.run("j", "r")
        revision = await seat.outside.put(key, admitted().to_bytes())
        await seat.feed.until(lambda view: view.revision >= revision)
        proxy.cut()
        await seat.outside.put(key, admitted().finish(Outcome.CANCELLED, now=utcnow()).to_bytes())
        asked = trigger("next", "j", value=1)
        revision = await seat.outside.put(seat.keys.command("next"), asked.to_bytes())
        loop = JobLoop(seat.office, assigned("j"))
        async with going_on(loop.run()):
            await loop.trigger(Stored(seat.keys.command("next"), asked, revision, revision))
        found = await seat.outside.get(seat.keys.command("next"))
        assert found is not None
        assert Command.from_bytes(found.value).outcome == "run next was admitted"


@pytest.mark.parametrize("before_write", [1, 2, 3])
@pytest.mark.timeout_s(15)
async def test_a_run_whose_admission_lands_while_the_loop_begins_again_is_carried_out(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, before_write: int
) -> None:
    """The loop broke before that admission was answered; what it wrote next finds it done, or keeps it from being."""

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        assignment, run = await one_fire(seat)
        loop, sent, writer = JobLoop(seat.office, assignment), asyncio.Event(), seat.writer

        async def never_answered() -> None:
            sent.set()
            await asyncio.Event().wait()

        async def lose_the_next() -> None:
            seat.client.fates, seat.client.meanwhile = ["later"], never_answered

        writer.after = lose_the_next  # the first write announces the job
        async with going_on(loop.run()):
            await sent.wait()
        first = writer.writes

        async def land() -> None:
            if writer.writes < first + before_write:
                writer.before = land
            else:
                await seat.client.deliver_late()

        writer.before = land
        with hearing() as heard:
            async with going_on(loop.run()):
                await heard.until(Events.RUN_FINISHED)
        done = await seat.feed.until(partial(_is_over, run=run))
        found = done.get(Kind.RUN, "j", run)
        assert found is not None
        assert found.record.outcome is Outcome.SUCCEEDED


async def one_fire(seat: Seat) -> tuple[Assignment, str]:
    """A job with one fire, which is due; and what its run is called."""
    due = datetime(2020, 1, 1, tzinfo=UTC)
    timetable = Timetable(watermark=due - timedelta(days=1), schedule=(due.isoformat(),))
    await seat.outside.put(seat.keys.timetable("j"), timetable.to_bytes())
    assignment = assigned("j", due.isoformat())
    spec = assignment.spec.model_copy(update={"params": {"value": 1}})
    return replace(assignment, spec=spec), fire_id(due)


def _is_over(view: View, run: str = "r") -> bool:
    found = view.get(Kind.RUN, "j", run)
    return found is not None and found.record.state is State.DONE
