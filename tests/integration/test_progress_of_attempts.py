"""Progress of an attempt, written by a term on a real etcd: the latest word stays, and none outlives the attempt."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.progress import ProgressWriter
from leaderjob.model.run import Cause, Outcome, Progress, Run, State
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from tests.support.office import Seat, going_on, seated
from tests.support.streams import run_with_streams


@pytest.fixture
def reporting(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> Callable[[Callable[[Seat, Stored[Run], ProgressWriter], Awaitable[None]]], None]:
    """Run a scenario of an attempt that has begun, and of what writes its progress."""

    def run(scenario: Callable[[Seat, Stored[Run], ProgressWriter], Awaitable[None]]) -> None:
        async def main() -> None:
            async with seated(etcd.endpoint, namespace, tmp_path) as seat:
                admitted = Run(id="r", job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow())
                begun = admitted.begin(token=seat.office.token, replica="r1", ttl_s=10.0, now=utcnow())
                key = seat.keys.run("j", "r")
                revision = await seat.outside.put(key, begun.to_bytes())
                stored = Stored(key, begun, revision, revision)
                await scenario(seat, stored, ProgressWriter(seat.office, stored, attempt=1))

        run_with_streams(main(), timeout_s=15)

    return run


async def shown(seat: Seat, done: float) -> None:
    def is_shown(view: View) -> bool:
        found = view.get(Kind.PROGRESS, "j", "r", "1")
        return found is not None and found.record.done == done

    await seat.feed.until(is_shown)


def test_progress_that_got_no_answer_does_not_come_back_over_what_was_told_later(
    reporting: Callable[..., None],
) -> None:
    async def scenario(seat: Seat, _: Stored[Run], progress: ProgressWriter) -> None:
        async with going_on(progress.run()):
            seat.client.fates = ["later"]
            progress.report(Progress(done=1, total=3))
            await shown(seat, 1)
            progress.report(Progress(done=2, total=3))
            await shown(seat, 2)
            assert await seat.client.deliver_late() == [False]
            progress.report(Progress(done=3, total=3))
            await shown(seat, 3)

    reporting(scenario)


def test_progress_that_somebody_else_wrote_or_deleted_is_written_again(
    reporting: Callable[..., None],
) -> None:
    async def scenario(seat: Seat, _: Stored[Run], progress: ProgressWriter) -> None:
        key = seat.keys.progress("j", "r", 1)
        async with going_on(progress.run()):
            await seat.outside.put(key, Progress(done=9, total=9).to_bytes())
            progress.report(Progress(done=1, total=3))
            await shown(seat, 1)
            await seat.outside.delete(key)
            progress.report(Progress(done=2, total=3))
            await shown(seat, 2)

    reporting(scenario)


def test_no_progress_is_written_once_the_attempt_is_over(reporting: Callable[..., None]) -> None:
    async def scenario(seat: Seat, run: Stored[Run], progress: ProgressWriter) -> None:
        over = run.record.finish(Outcome.FAILED, now=utcnow())
        await seat.outside.put(run.key, over.to_bytes())
        progress.report(Progress(done=1, total=3))
        async with asyncio.timeout(5):
            await progress.run()
        assert await seat.outside.get(seat.keys.progress("j", "r", 1)) is None

    reporting(scenario)
