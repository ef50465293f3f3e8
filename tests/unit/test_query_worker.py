"""Queries on published versions: what is promised across swaps, crashes and idleness."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from leaderjob.errors import NotFound
from leaderjob.execution.query import Answered, Limits, QueryFailed, QueryPool, QueryRefused
from tests.support import marked
from tests.support.loop import run_async

SUPPORT = Path(marked.__file__).parent
REFERENCE = "jobs.queries:lookup"
TIMEOUT_S = 20.0


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


def version_dir(tmp_path: Path, version: int) -> Path:
    directory = tmp_path / str(version)
    directory.mkdir()
    (directory / "text").write_text(f"text of {version}")
    return directory


def openings(tmp_path: Path, version: int) -> int:
    """How often the version was opened."""
    opened = tmp_path / str(version) / "opened"
    return len(opened.read_text()) if opened.exists() else 0


def with_pool(
    tmp_path: Path, body: Callable[[QueryPool], Awaitable[None]], limits: Limits | None = None
) -> None:
    async def main() -> None:
        async with QueryPool(tmp_path / "logs", cwd=SUPPORT, limits=limits or Limits()) as pool:
            await pool.activate("lookup", REFERENCE, 1, version_dir(tmp_path, 1))
            await body(pool)

    run_async(main())


async def ask(pool: QueryPool, what: str = "text", **fields: Any) -> Answered:
    return await pool.ask("lookup", {"what": what, **fields}, TIMEOUT_S)


def test_an_answer_carries_the_version_that_gave_it(tmp_path: Path, mark: str) -> None:
    async def body(pool: QueryPool) -> None:
        assert await ask(pool) == Answered(1, "text of 1")
        assert (await ask(pool, "large")).value == "x" * (3 << 20)
        assert (await ask(pool, "stdin")).value == ""

    with_pool(tmp_path, body)
    assert marked.alive(mark) == []


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("null", None),
        ("fork", 0),
        ("changes", {"rows": 1}),
        ("limit", "é" * (2_097_151)),
        ("small numbers", [1e-05] * 699_050),
    ],
)
def test_any_json_value_up_to_the_limit_is_an_answer(tmp_path: Path, what: str, value: Any) -> None:
    async def body(pool: QueryPool) -> None:
        assert (await ask(pool, what)).value == value
        assert (await ask(pool)).value == "text of 1"

    with_pool(tmp_path, body)
    assert openings(tmp_path, 1) == 1


def test_no_worker_runs_until_somebody_asks(tmp_path: Path, mark: str) -> None:
    async def body(pool: QueryPool) -> None:
        await pool.activate("lookup", REFERENCE, 2, version_dir(tmp_path, 2))
        assert marked.alive(mark) == []
        assert await ask(pool) == Answered(2, "text of 2")

    with_pool(tmp_path, body)
    assert openings(tmp_path, 1) == 0


def test_many_first_queries_at_once_open_the_version_once(tmp_path: Path) -> None:
    async def body(pool: QueryPool) -> None:
        answers = await asyncio.gather(*(ask(pool) for _ in range(20)))
        assert answers == [Answered(1, "text of 1")] * 20

    with_pool(tmp_path, body)
    assert openings(tmp_path, 1) == 1


def test_a_swap_under_load_fails_no_query_and_versions_never_go_back(tmp_path: Path, mark: str) -> None:
    newest = 4
    seen: list[list[int]] = []

    async def keep_asking(pool: QueryPool) -> None:
        versions = [0]
        while versions[-1] != newest:
            answered = await ask(pool)
            assert answered.value == f"text of {answered.version}"
            versions.append(answered.version)
        seen.append(versions)

    async def body(pool: QueryPool) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(keep_asking(pool))
            await ask(pool)
            for version in range(2, newest + 1):
                await pool.activate("lookup", REFERENCE, version, version_dir(tmp_path, version))

    with_pool(tmp_path, body)
    assert all(versions == sorted(versions) for versions in seen)
    assert {version for versions in seen for version in versions} >= {1, newest}
    assert marked.alive(mark) == []


def test_the_old_version_finishes_what_is_in_flight(tmp_path: Path) -> None:
    flag = tmp_path / "flag"

    async def body(pool: QueryPool) -> None:
        await ask(pool)
        slow = asyncio.create_task(ask(pool, "wait", path=str(flag)))
        await asyncio.sleep(0)
        await pool.activate("lookup", REFERENCE, 2, version_dir(tmp_path, 2))
        assert (await ask(pool)).version == 2
        flag.touch()
        assert await slow == Answered(1, "waited")

    with_pool(tmp_path, body)


def test_a_version_that_cannot_be_opened_leaves_the_old_one_serving(tmp_path: Path) -> None:
    async def body(pool: QueryPool) -> None:
        await ask(pool)
        damaged = version_dir(tmp_path, 2)
        (damaged / "refuse").touch()
        with pytest.raises(
            QueryFailed, match=r"version 2 could not be opened.*RuntimeError: the index is damaged"
        ) as failed:
            await pool.activate("lookup", REFERENCE, 2, damaged)
        trace = failed.value.trace
        assert trace is not None
        assert [frame.function for frame in trace.exceptions[-1].frames] == ["open_text"]
        assert (await ask(pool)).version == 1

    with_pool(tmp_path, body)


def test_of_two_activations_at_once_the_last_one_counts(tmp_path: Path) -> None:
    async def body(pool: QueryPool) -> None:
        await ask(pool)
        slow = version_dir(tmp_path, 2)
        (slow / "slow").touch()
        overtaken = asyncio.create_task(pool.activate("lookup", REFERENCE, 2, slow))
        await asyncio.sleep(0)
        await pool.activate("lookup", REFERENCE, 3, version_dir(tmp_path, 3))
        (slow / "go on").touch()
        await overtaken
        assert (await ask(pool)).version == 3

    with_pool(tmp_path, body)


def test_a_query_in_flight_when_the_worker_crashes_is_tried_again(tmp_path: Path) -> None:
    async def body(pool: QueryPool) -> None:
        await ask(pool)
        assert (await ask(pool, "crash once", path=str(tmp_path / "crashed"))).value == "better"

    with_pool(tmp_path, body)
    assert openings(tmp_path, 1) == 2


def test_a_query_that_crashes_the_worker_twice_fails_and_the_next_one_is_answered(tmp_path: Path) -> None:
    async def body(pool: QueryPool) -> None:
        with pytest.raises(QueryFailed, match=r"tried twice.*exited with status 9"):
            await ask(pool, "crash")
        assert openings(tmp_path, 1) == 2
        assert (await ask(pool)).value == "text of 1"

    with_pool(tmp_path, body)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"what": "wrong"}, "lookup: there is no such field: 'colour'"),
        ({"what": "text", "colour": "red"}, "unexpected keyword argument 'colour'"),
        ({}, "missing a required argument: 'what'"),
        ({"what": {1, 2}}, "have to be JSON values"),
        ({"what": "x" * (2 << 20)}, "more than 1048576"),
    ],
)
def test_a_wrong_query_says_what_is_wrong_and_harms_nobody(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    async def body(pool: QueryPool) -> None:
        with pytest.raises(QueryRefused, match=message) as caught:
            await pool.ask("lookup", fields, TIMEOUT_S)
        assert caught.value.exit_code == 2
        assert (await ask(pool)).value == "text of 1"

    with_pool(tmp_path, body)
    assert openings(tmp_path, 1) == 1


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("fail", "OSError: the disk is gone"),
        ("value error", "ValueError: invalid literal for int"),
        ("type error", "TypeError: object of type 'int' has no len"),
        ("exit", "SystemExit"),
        ("object", "is not JSON"),
        ("huge", "more than 4194304"),
        ("above", "has at least 4194306 bytes of JSON, more than 4194304"),
    ],
)
def test_an_answer_that_fails_is_told_from_a_wrong_query(tmp_path: Path, what: str, message: str) -> None:
    async def body(pool: QueryPool) -> None:
        with pytest.raises(QueryFailed, match=message):
            await ask(pool, what)
        assert (await ask(pool)).value == "text of 1"

    with_pool(tmp_path, body)
    assert openings(tmp_path, 1) == 1


def test_a_job_without_an_active_version_is_not_found(tmp_path: Path) -> None:
    async def body(pool: QueryPool) -> None:
        with pytest.raises(NotFound, match="no version of 'other'"):
            await pool.ask("other", {}, TIMEOUT_S)

    with_pool(tmp_path, body)


def test_a_job_that_answers_no_queries_says_so(tmp_path: Path) -> None:
    async def body(pool: QueryPool) -> None:
        await pool.activate("silent", "jobs.queries:answers_nothing", 1, tmp_path)
        with pytest.raises(QueryFailed, match="answers no queries"):
            await pool.ask("silent", {}, TIMEOUT_S)

    with_pool(tmp_path, body)


def test_a_query_that_takes_too_long_fails_and_a_stuck_worker_is_replaced(tmp_path: Path, mark: str) -> None:
    async def body(pool: QueryPool) -> None:
        first = (await ask(pool, "pid")).value
        with pytest.raises(QueryFailed, match=r"did not answer within 500ms"):
            await pool.ask("lookup", {"what": "hang"}, 0.5)
        assert (await ask(pool, "pid")).value != first

    with_pool(tmp_path, body, Limits(stuck_s=0.4))
    assert marked.alive(mark) == []


def test_a_slow_query_that_times_out_does_not_cost_the_others_their_worker(tmp_path: Path) -> None:
    flag = tmp_path / "flag"

    async def body(pool: QueryPool) -> None:
        first = (await ask(pool, "pid")).value
        with pytest.raises(QueryFailed, match="did not answer within"):
            await pool.ask("lookup", {"what": "wait", "path": str(flag)}, 0.1)
        flag.touch()
        assert (await ask(pool, "pid")).value == first

    with_pool(tmp_path, body)


def test_an_idle_worker_is_closed_and_the_next_query_starts_another(tmp_path: Path, mark: str) -> None:
    async def body(pool: QueryPool) -> None:
        first = (await ask(pool, "pid")).value
        gone = await asyncio.to_thread(marked.left_after, mark, within_s=10)
        assert gone == []
        assert (await ask(pool, "pid")).value != first

    with_pool(tmp_path, body, Limits(idle_s=0.3))


async def test_closing_the_pool_ends_a_worker_that_hangs_and_fails_its_queries(
    tmp_path: Path, mark: str
) -> None:
    flag = tmp_path / "flag"
    asking: list[asyncio.Task[Answered]] = []

    async with QueryPool(tmp_path / "logs", cwd=SUPPORT) as pool:
        await pool.activate("lookup", REFERENCE, 1, version_dir(tmp_path, 1))
        await ask(pool)
        asking.append(asyncio.create_task(ask(pool, "wait", path=str(flag))))
        await asyncio.sleep(0)
    with pytest.raises(QueryFailed):
        await asking[0]
    assert marked.alive(mark) == []
