"""Faults of a replica's own: a disk that takes nothing, an event loop that is held up."""

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from leaderjob import leading
from leaderjob.cluster import fitness
from leaderjob.cluster.fitness import PROBE, Fitness, disk_problem
from leaderjob.engine.stepdown import StepDown
from leaderjob.leading import Leading
from leaderjob.recipes import TermLost


def test_a_disk_that_can_be_written_is_no_problem(tmp_path: Path) -> None:
    assert disk_problem(tmp_path) is None
    assert disk_problem(tmp_path) is None, "a second time"


def test_nothing_is_left_on_the_disk_whose_room_a_full_one_could_give_back(tmp_path: Path) -> None:
    assert disk_problem(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / PROBE).mkdir()
    problem = disk_problem(tmp_path)
    assert problem is not None
    assert f"nothing can be written to {tmp_path / PROBE}: Is a directory" in problem
    assert disk_problem(tmp_path / "not there") is not None


async def test_several_may_ask_at_once(tmp_path: Path) -> None:
    disk = Fitness(tmp_path)
    assert (await asyncio.gather(*(disk.problem() for _ in range(3)))) == [None, None, None]


async def test_a_disk_that_hangs_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "_DISK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(fitness, "disk_problem", lambda directory: time.sleep(0.5))
    assert "has not taken a few bytes within 0.1 s" in str(await Fitness(tmp_path).problem())


@pytest.mark.timeout_s(10)
async def test_a_disk_is_looked_at_while_every_thread_that_asyncio_lends_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "_DISK_TIMEOUT_S", 2.0)
    over = threading.Event()

    busy = [asyncio.ensure_future(asyncio.to_thread(over.wait)) for _ in range(64)]
    assert await Fitness(tmp_path).problem() is None
    over.set()
    await asyncio.gather(*busy)


@pytest.mark.timeout_s(10)
def probes() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "disk probe"}


async def test_a_disk_that_hangs_on_is_not_looked_at_by_one_thread_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "_DISK_TIMEOUT_S", 0.05)
    over = threading.Event()
    monkeypatch.setattr(fitness, "disk_problem", lambda directory: (over.wait(), None)[1])

    fit = Fitness(tmp_path)
    before = probes()  # those of other tests may end at any time
    for _ in range(3):
        assert await fit.problem() is not None
    assert len(probes() - before) == 1
    over.set()
    monkeypatch.setattr(fitness, "_DISK_TIMEOUT_S", 5.0)
    assert await fit.problem() is None


@pytest.mark.timeout_s(10)
async def test_office_ends_with_the_session_where_work_hangs_on_the_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leading, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(leading, "_UNFIT_FOR_S", 0.05)
    lost = asyncio.Queue[str]()

    class Replica:
        _stepdown = StepDown()
        _settings = SimpleNamespace(election=SimpleNamespace(drain=0.0, kill_grace_s=0.3))
        _term = 7

        class _fitness:
            @staticmethod
            async def problem() -> str:
                return "its disk hangs"

    session = SimpleNamespace(lose=lost.put_nowait)
    began_at = time.monotonic()
    watching = asyncio.ensure_future(Leading._step_down_if_unfit(Replica(), session))  # type: ignore[arg-type]
    assert "its disk hangs" in await lost.get()
    assert time.monotonic() - began_at > 0.3, "a worker may take its grace"
    assert Replica._stepdown.reason == "its disk hangs"
    assert not Replica._stepdown.in_order, "a job may have brought it about"
    watching.cancel()
    await asyncio.wait([watching])


@pytest.mark.timeout_s(10)
async def test_who_is_to_leave_leaves_though_its_term_ends_by_itself_at_that_moment() -> None:
    class Replica:
        _out_of_office = asyncio.Event()
        begun = 0

        async def _one_session(self) -> None:
            self.begun += 1
            assert self.begun == 1, "it goes on"
            try:
                await asyncio.Event().wait()
            finally:
                raise ExceptionGroup("as a group of tasks ends", [TermLost("term 7 is over")])

    replica = Replica()
    standing = asyncio.ensure_future(Leading._take_part_for_ever(replica))  # type: ignore[arg-type]
    while not replica.begun:
        await asyncio.sleep(0)
    standing.cancel()
    await asyncio.wait([standing])
    assert (standing.cancelled(), replica.begun) == (True, 1)


async def test_a_loop_that_is_held_up_most_of_the_time_is_a_problem_until_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "_WINDOW_S", 1.0)
    monkeypatch.setattr(fitness, "_TICK_S", 0.02)

    fit = Fitness(tmp_path)
    measuring = asyncio.create_task(fit.run())
    await asyncio.sleep(0.1)
    assert await fit.problem() is None
    time.sleep(0.2)  # a short while is nothing
    await asyncio.sleep(0.05)
    assert await fit.problem() is None
    time.sleep(0.7)
    await asyncio.sleep(0.05)
    assert "its event loop was held up for 1 s of the last 1 s" in str(await fit.problem())
    await asyncio.sleep(1.2)
    assert await fit.problem() is None
    measuring.cancel()
