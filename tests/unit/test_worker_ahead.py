"""A worker that is started ahead: it waits for its request, and goes without a trace where none comes."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from leaderjob.clock import boottime
from leaderjob.execution.ahead import WorkerAhead
from leaderjob.execution.attempt import Heard, judge, run_attempt
from leaderjob.execution.guarded import Cause, Exit, StartFailed
from leaderjob.execution.messages import WORKER, read
from leaderjob.execution.protocol import WorkerRequest
from leaderjob.model.run import Outcome
from tests.support import marked


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


def worker(tmp_path: Path) -> WorkerAhead:
    return WorkerAhead(log_path=tmp_path / "log", cwd=tmp_path, grace_s=60.0)


EXITED = Exit(code=0, signal=None, reaped=True, max_rss_bytes=None, cause=Cause.EXIT)


def requested(tmp_path: Path, *, start_before: float) -> WorkerRequest:
    return WorkerRequest(
        reference="job_module:job",
        job="job",
        run_id="r",
        attempt=1,
        fencing_token=7,
        fire_time=None,
        params={},
        artifact_dir=tmp_path / "artifact",
        previous=None,
        cwd=tmp_path,
        start_before=start_before,
    )


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_one_that_nobody_asked_for_is_killed_at_once_and_has_written_nothing(
    tmp_path: Path, mark: str
) -> None:
    async with worker(tmp_path) as ahead:
        process = await ahead.process()
        while len(marked.alive(mark)) < 2:
            await asyncio.sleep(0.01)
        assert process.ended is None, "it waits"
        left_at = time.monotonic()
    took_s = time.monotonic() - left_at
    assert took_s < 30, "it had no grace to spend"
    assert marked.alive(mark) == []
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("pause_s", [0.0, 0.01, 0.03, 0.1])
async def test_left_at_any_point_of_its_start_nothing_remains(
    tmp_path: Path, mark: str, pause_s: float
) -> None:
    before = open_descriptors()
    async with worker(tmp_path):
        await asyncio.sleep(pause_s)
    assert marked.alive(mark) == []
    assert open_descriptors() == before


@pytest.mark.timeout_s(20)
async def test_one_that_died_while_it_waited_is_replaced(tmp_path: Path, mark: str) -> None:
    async with worker(tmp_path) as ahead:
        first = await ahead.process()
        await ahead.replace_dead()
        assert await ahead.process() is first, "it lives"
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        await ahead.replace_dead()
        second = await ahead.process()
        assert second is not first
        assert second.ended is None
    assert marked.alive(mark) == []


async def test_a_request_that_comes_after_its_time_starts_nothing(tmp_path: Path) -> None:
    """The worker is up, and what hands the request over was stopped for longer than its trust."""
    (tmp_path / "job_module.py").write_text("import pathlib\npathlib.Path('started').touch()\n")

    late = requested(tmp_path, start_before=boottime() - 0.001)
    async with worker(tmp_path) as ahead:
        end = await run_attempt(
            late, ahead, timeout_s=60.0, trusted_until=lambda: boottime() - 1.0, on_progress=print
        )
    async with worker(tmp_path) as ahead:
        process = await ahead.process()
        process.send(late.to_line())
        process.end_input()
        message = [message async for message in process.messages()][-1]
    assert (end.outcome, end.reason) == (
        Outcome.ABANDONED,
        "the term could not be trusted any more: no worker was started",
    )
    assert message["kind"] == "late"
    assert judge(EXITED, Heard(read(WORKER, message)), timeout_s=None).outcome is Outcome.ABANDONED
    assert not (tmp_path / "started").exists()


async def test_one_that_could_not_start_says_so_to_whoever_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()

    async with worker(tmp_path) as ahead:
        with pytest.raises(StartFailed, match="Is a directory"):
            await ahead.process()
