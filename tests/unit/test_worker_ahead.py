"""A worker that is started ahead: it waits for its request, and goes without a trace where none comes."""

import asyncio
import time
from pathlib import Path

import pytest

from leaderjob.execution.ahead import WorkerAhead
from leaderjob.execution.process import StartFailed
from tests.support import marked
from tests.support.loop import run_async


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


def worker(tmp_path: Path) -> WorkerAhead:
    return WorkerAhead(log_path=tmp_path / "log", cwd=tmp_path, grace_s=60.0)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_that_nobody_asked_for_is_killed_at_once_and_has_written_nothing(
    tmp_path: Path, mark: str
) -> None:
    async def main() -> float:
        async with worker(tmp_path) as ahead:
            process = await ahead.process()
            while len(marked.alive(mark)) < 2:
                await asyncio.sleep(0.01)
            assert process.ended is None, "it waits"
            left_at = time.monotonic()
        return time.monotonic() - left_at

    took_s = run_async(main())
    assert took_s < 30, "it had no grace to spend"
    assert marked.alive(mark) == []
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("pause_s", [0.0, 0.01, 0.03, 0.1])
def test_left_at_any_point_of_its_start_nothing_remains(tmp_path: Path, mark: str, pause_s: float) -> None:
    async def main() -> None:
        async with worker(tmp_path):
            await asyncio.sleep(pause_s)

    before = open_descriptors()
    run_async(main())
    assert marked.alive(mark) == []
    assert open_descriptors() == before


def test_one_that_could_not_start_says_so_to_whoever_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()

    async def main() -> None:
        async with worker(tmp_path) as ahead:
            with pytest.raises(StartFailed, match="Is a directory"):
                await ahead.process()

    run_async(main())
