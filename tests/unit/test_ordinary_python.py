"""What a program may do as ``python FILE``, a job may do as well."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderjob.execution.ahead import WorkerAhead
from leaderjob.execution.attempt import AttemptEnd, run_attempt
from leaderjob.execution.protocol import WorkerRequest
from leaderjob.model.run import Outcome, Progress
from tests.support import marked

SUPPORT = Path(marked.__file__).parent


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mark = marked.put_mark(monkeypatch)
    yield
    assert marked.alive(mark) == []


async def attempt(
    tmp_path: Path, job: str, *, timeout_s: float = 50.0, seen: list[Progress] | None = None, **params: Any
) -> AttemptEnd:
    request = WorkerRequest(
        reference=f"jobs.programs:{job}",
        job=job,
        run_id="a",
        attempt=1,
        fencing_token=1,
        fire_time=None,
        params=params,
        artifact_dir=tmp_path / "artifacts",
        previous=None,
        cwd=SUPPORT,
    )
    async with WorkerAhead(log_path=tmp_path / "log", cwd=SUPPORT, grace_s=0.5) as worker:
        return await run_attempt(
            request,
            worker,
            timeout_s=timeout_s,
            trusted_until=lambda: float("inf"),
            on_progress=(seen if seen is not None else []).append,
        )


@pytest.mark.parametrize(
    ("job", "params", "result", "logged"),
    [
        ("maps_in_a_pool", {"method": "fork"}, [0, 1, 4, 9], ""),
        ("maps_in_a_pool", {"method": "spawn"}, [0, 1, 4, 9], ""),
        ("maps_in_a_pool", {"method": "forkserver"}, [0, 1, 4, 9], ""),
        ("maps_in_an_executor", {}, [0, 1, 4, 9], ""),
        ("terminates_a_process", {"method": "fork"}, -15, ""),
        ("terminates_a_process", {"method": "spawn"}, -15, ""),
        ("leaves_a_daemon_process", {}, "done", ""),
        ("forks_from_a_thread", {}, -15, ""),
        ("keeps_its_own_handler_in_a_fork", {}, 7, ""),
        ("forks_and_both_return", {}, 0, ""),
        ("forks_and_the_child_raises", {}, 1, "ZeroDivisionError: in the child"),
        ("forks_and_the_child_exits", {}, 5, ""),
        ("ends_before_its_thread", {}, "done", "the thread is done"),
        ("exits", {}, None, ""),
        ("exits", {"code": 0}, None, ""),
        ("exits_in_a_coroutine", {}, None, ""),
        ("parses_its_arguments", {}, ["low", "programs.py", True], ""),
        ("configures_logging", {"how": "basic"}, None, "MINE from a logger\nMINE from the context\n"),
        ("configures_logging", {"how": "force"}, None, "MINE from a logger\nMINE from the context\n"),
        ("configures_logging", {"how": "dict"}, None, "INFO job.configures_logging from the context\n"),
        ("goes_elsewhere", {}, "done", ""),
        ("closes_its_streams", {}, "done", ""),
        ("takes_its_streams_away", {}, "done", "said all the same"),
        ("turns_faulthandler_on", {}, "done", ""),
        ("runs_a_loop", {}, "status 0", ""),
        ("registers_an_exit_function", {}, "hi\n", "goodbye"),
    ],
)
async def test_what_a_program_may_do_a_job_may_do(
    tmp_path: Path, job: str, params: dict[str, Any], result: Any, logged: str
) -> None:
    seen: list[Progress] = []
    end = await attempt(tmp_path, job, seen=seen, **params)
    assert (end.outcome, end.reason, end.result, end.reaped) == (Outcome.SUCCEEDED, None, result, True)
    assert logged in (tmp_path / "log").read_text()
    assert seen == []  # a forked child reports nothing


@pytest.mark.parametrize(
    ("job", "params", "reason"),
    [
        ("exits", {"code": 3}, "the job called sys.exit(3): only 0 means success"),
        ("exits", {"code": "no such table"}, "the job called sys.exit() with a message: no such table"),
        ("raises_the_unspeakable", {"how": "raises"}, "Unspeakable: <its message cannot be shown"),
        ("raises_the_unspeakable", {"how": "exits"}, "Unspeakable: <its message cannot be shown"),
        ("raises_the_unspeakable", {"how": "number"}, "Unspeakable: <its message cannot be shown"),
        ("raises_the_unspeakable", {"how": "surrogate"}, r"Unspeakable: half \udc80"),
        ("raises_what_is_no_exception", {"kind": "interrupt"}, "KeyboardInterrupt"),
        ("raises_what_is_no_exception", {"kind": "generator"}, "GeneratorExit"),
        ("raises_what_is_no_exception", {"kind": "own"}, "Own"),
        ("recurses", {}, "RecursionError: maximum recursion depth exceeded"),
        ("returns_what_is_deep", {"levels": 101}, "nested more than 100 levels deep"),
        ("returns_what_is_deep", {"levels": 1_000_000}, "nested more than 100 levels deep"),
    ],
)
async def test_a_job_that_fails_says_why(
    tmp_path: Path, job: str, params: dict[str, Any], reason: str
) -> None:
    end = await attempt(tmp_path, job, **params)
    assert (end.outcome, end.reaped) == (Outcome.FAILED, True)
    assert reason in (end.reason or "")


async def test_result_at_the_depth_bound_is_accepted(tmp_path: Path) -> None:
    end = await attempt(tmp_path, "returns_what_is_deep", levels=100)
    assert end.outcome is Outcome.SUCCEEDED


async def test_job_that_closes_every_descriptor_harms_no_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEFT_ALONE", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    end = await attempt(tmp_path, "closes_every_descriptor")
    assert end.outcome is Outcome.FAILED
    assert "closed the descriptor" in (end.reason or "")
    assert "close only descriptors that your code has opened" in (tmp_path / "log").read_text()
    assert all(file.read_bytes() == b"" for file in (tmp_path / "own").iterdir())
