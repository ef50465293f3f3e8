"""What an attempt amounts to, for every way in which a job can end."""

import asyncio
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime
from leaderjob.execution.ahead import WorkerAhead
from leaderjob.execution.attempt import AttemptEnd, Heard, judge, run_attempt
from leaderjob.execution.guarded import Cause, Exit
from leaderjob.execution.messages import Returned
from leaderjob.execution.protocol import WorkerRequest
from leaderjob.model.run import Outcome, Progress
from tests.support import marked
from tests.support.loop import run_async

SUPPORT = Path(marked.__file__).parent
FOR_EVER = float("inf")


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


def requested(tmp_path: Path, reference: str, **params: Any) -> WorkerRequest:
    return WorkerRequest(
        reference=f"jobs.{reference}",
        job=reference.rpartition(":")[2],
        run_id="20260101t000000z",
        attempt=2,
        fencing_token=41,
        fire_time=datetime(2026, 1, 1, tzinfo=UTC),
        params=params,
        artifact_dir=tmp_path / "artifacts",
        previous=None,
        cwd=SUPPORT,
    )


async def attempt(
    request: WorkerRequest,
    tmp_path: Path,
    *,
    timeout_s: float = 30.0,
    grace_s: float = 0.5,
    trusted_until: Callable[[], float] = lambda: FOR_EVER,
    on_progress: Callable[[Progress], object] = lambda progress: None,
) -> AttemptEnd:
    async with WorkerAhead(log_path=tmp_path / "log", cwd=request.cwd, grace_s=grace_s) as worker:
        return await run_attempt(
            request,
            worker,
            timeout_s=timeout_s,
            trusted_until=trusted_until,
            on_progress=lambda progress: (on_progress(progress), None)[1],
        )


async def cancelled_when_up(request: WorkerRequest, tmp_path: Path, *, grace_s: float) -> None:
    up = asyncio.Event()
    task = asyncio.create_task(attempt(request, tmp_path, grace_s=grace_s, on_progress=lambda _: up.set()))
    await up.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def run(tmp_path: Path, reference: str, **params: Any) -> AttemptEnd:
    return run_async(attempt(requested(tmp_path, reference, **params), tmp_path))


@pytest.mark.parametrize("value", [None, 0, "é", [1, {"a": None}], "x" * 200_000])
def test_what_a_job_returns_is_the_result(tmp_path: Path, value: object) -> None:
    end = run(tmp_path, "ordinary:returns", value=value)
    assert (end.outcome, end.result, end.reason, end.reaped) == (Outcome.SUCCEEDED, value, None, True)
    assert end.max_rss_bytes is not None
    assert end.max_rss_bytes > 5_000_000


def test_a_coroutine_is_a_job_too(tmp_path: Path) -> None:
    assert run(tmp_path, "ordinary:returns_from_a_coroutine", value=1).result == 2


def test_output_and_log_records_go_to_the_log(tmp_path: Path) -> None:
    run(tmp_path, "ordinary:returns")
    log = (tmp_path / "log").read_text()
    assert "a line for the log\n" in log
    assert "INFO job.returns a record for the log\n" in log


def test_a_job_knows_its_run(tmp_path: Path) -> None:
    end = run(tmp_path, "ordinary:tells_its_context")
    assert end.result == {
        "job": "tells_its_context",
        "run_id": "20260101t000000z",
        "attempt": 2,
        "fencing_token": 41,
        "fire_time": "2026-01-01T00:00:00+00:00",
        "previous": None,
        "cwd": str(SUPPORT),
        "stdin": "",
        "cancelled": False,
    }
    assert (tmp_path / "artifacts" / "made").read_text() == "x"


def test_a_worker_has_nothing_of_ours_but_the_sdk_and_what_runs_it(tmp_path: Path) -> None:
    imported = run(tmp_path, "ordinary:tells_what_is_imported").result
    ours = {name for name in imported if name.startswith("leaderjob.")}
    execution = {"channel", "joblog", "protocol", "signals"}
    allowed = {
        "version",
        "sdk",
        "errors",
        "json_text",
        "modules",
        "execution",
        *(f"execution.{name}" for name in execution),
        "telemetry",
        "telemetry.raised",
    }
    assert ours <= {f"leaderjob.{name}" for name in allowed}
    assert not {"pydantic", "grpc", "etcd3"} & set(imported)


def test_a_failure_carries_the_traceback_of_the_jobs_own_frames(tmp_path: Path) -> None:
    end = run(tmp_path, "ordinary:raises")
    assert (end.outcome, end.reason, end.permanent) == (
        Outcome.FAILED,
        "ZeroDivisionError: division by zero",
        False,
    )
    assert end.traceback is not None
    assert "_divide" in end.traceback
    assert end.traceback.splitlines()[1].endswith("in raises")
    assert "worker.py" not in end.traceback
    (raised,) = end.traceback.exceptions
    assert (raised.type, raised.message) == ("ZeroDivisionError", "division by zero")
    assert [frame.function for frame in raised.frames] == ["raises", "_divide"]
    assert raised.frames[-1].code.strip() == "return dividend / divisor"


def test_a_job_can_steer_its_retries(tmp_path: Path) -> None:
    later = run(tmp_path, "ordinary:asks_to_retry_later", delay_s=7)
    assert (later.outcome, later.retry_after_s, later.permanent) == (Outcome.FAILED, 7, False)
    assert later.reason == "the other side is busy"
    never = run(tmp_path, "ordinary:fails_for_good")
    assert (never.outcome, never.permanent, never.reason) == (Outcome.FAILED, True, "there is no such table")


@pytest.mark.parametrize("delay_s", [-1, "soon", None])
def test_a_retry_delay_that_makes_no_sense_is_a_plain_failure(tmp_path: Path, delay_s: object) -> None:
    end = run(tmp_path, "ordinary:asks_to_retry_later", delay_s=delay_s)
    assert (end.outcome, end.retry_after_s) == (Outcome.FAILED, None)


@pytest.mark.parametrize("kind", ["object", "nan", "endless", "large"])
def test_a_result_that_cannot_be_published_is_a_failure_that_says_why(tmp_path: Path, kind: str) -> None:
    end = run(tmp_path, "hostile:returns_what_is_not_json", kind=kind)
    assert end.outcome is Outcome.FAILED
    assert end.result is None
    assert "ctx.artifact_dir()" in (end.reason or "")


@pytest.mark.parametrize(
    ("reference", "params", "reason"),
    [
        ("hostile:segfaults", {}, "killed by SIGSEGV: native code crashed"),
        ("hostile:kills_itself", {"number": 9}, "killed by SIGKILL: the kernel's out-of-memory killer"),
        ("hostile:kills_itself", {"number": 10}, "killed by SIGUSR1"),
        ("hostile:exits", {"code": 3, "hard": True}, "exited with status 3 and without a result"),
        ("hostile:exits", {"code": 0, "hard": True}, "exited with status 0 and without a result"),
        ("hostile:exits", {"code": 3, "hard": False}, "the job called sys.exit(3)"),
        ("hostile:breaks_the_protocol", {}, "broke the protocol"),
        ("ordinary:reports_nonsense", {}, "ValueError: progress has to be a finite number"),
        ("ordinary:raise", {}, "did you mean 'raises'?"),
        ("missing:job", {}, "there is no module 'jobs.missing'"),
        ("broken:job", {}, "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
    ],
)
def test_a_worker_that_fails_says_how(
    tmp_path: Path, mark: str, reference: str, params: dict[str, Any], reason: str
) -> None:
    end = run(tmp_path, reference, **params)
    assert (end.outcome, end.reaped) == (Outcome.FAILED, True)
    assert reason in (end.reason or "")
    assert marked.alive(mark) == []


def test_the_peak_memory_is_named_when_memory_may_be_the_cause(tmp_path: Path) -> None:
    end = run(tmp_path, "hostile:kills_itself", number=9)
    assert end.max_rss_bytes is not None
    assert f"{end.max_rss_bytes / 2**20:.0f} MiB" in (end.reason or "")


def test_what_a_job_prints_cannot_be_taken_for_a_message(tmp_path: Path) -> None:
    end = run(tmp_path, "hostile:prints", size_bytes=8_000_000)
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, "printed")
    assert (tmp_path / "log").stat().st_size > 8_000_000


def test_the_jobs_own_children_do_not_inherit_the_message_pipe(tmp_path: Path) -> None:
    assert run(tmp_path, "hostile:tells_whether_messages_are_inherited").result is False


async def test_a_flood_of_progress_becomes_a_trickle_that_ends_with_the_last_one(tmp_path: Path) -> None:
    seen: list[Progress] = []
    request = requested(tmp_path, "ordinary:reports", times=50_000)
    started_at = boottime()
    end = await attempt(request, tmp_path, on_progress=seen.append)
    took_s = boottime() - started_at
    assert end.outcome is Outcome.SUCCEEDED
    assert (seen[-1].done, seen[-1].total, seen[-1].message) == (50_000, 50_000, "step 50000")
    assert len(seen) <= took_s * 10 + 2


async def test_the_last_progress_of_a_burst_is_seen_while_the_job_goes_on(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    request = requested(tmp_path, "ordinary:reports_and_waits", times=5, until=str(flag))

    def seen(progress: Progress) -> None:
        if progress.done == 5:
            flag.touch()

    assert (await attempt(request, tmp_path, on_progress=seen)).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    "reference",
    [
        "hostile:sleeps",
        "hostile:ignores_term",
        "hostile:sleeps_in_a_coroutine",
        "hostile:returns_early_when_cancelled",
        "hostile:holds_the_interpreter_lock",
        "hostile:leaves_a_thread",
    ],
)
async def test_a_job_that_takes_too_long_has_timed_out(tmp_path: Path, mark: str, reference: str) -> None:
    end = await attempt(requested(tmp_path, reference), tmp_path, timeout_s=1.0, grace_s=0.3)
    assert (end.outcome, end.reaped, end.result) == (Outcome.TIMED_OUT, True, None)
    assert end.reason == "it took longer than its timeout of 1s"
    assert marked.alive(mark) == []


async def test_a_coroutine_is_cancelled_and_may_clean_up(tmp_path: Path) -> None:
    request = requested(tmp_path, "hostile:sleeps_in_a_coroutine")
    await cancelled_when_up(request, tmp_path, grace_s=20)
    assert "cleaned up" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("reference", ["hostile:ignores_term", "hostile:returns_early_when_cancelled"])
async def test_when_trust_runs_out_the_attempt_is_abandoned_by_then(
    tmp_path: Path, mark: str, reference: str
) -> None:
    deadline = boottime() + 1.2
    request = requested(tmp_path, reference)
    end = await attempt(request, tmp_path, trusted_until=lambda: deadline, grace_s=0.4)
    assert (end.outcome, end.reaped) == (Outcome.ABANDONED, True)
    assert boottime() < deadline + 0.5
    assert marked.alive(mark) == []


async def test_trust_that_is_renewed_keeps_the_worker_alive(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    started_at = boottime()

    def renewed() -> float:
        if boottime() > started_at + 1.5:
            flag.touch()
        return boottime() + 1.0

    request = requested(tmp_path, "hostile:waits_for", path=str(flag))
    end = await attempt(request, tmp_path, trusted_until=renewed, grace_s=0.2)
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, "done")


async def test_without_trust_nothing_starts(tmp_path: Path) -> None:
    request = requested(tmp_path, "ordinary:tells_its_context")
    end = await attempt(request, tmp_path, trusted_until=lambda: boottime() - 1)
    assert (end.outcome, end.reaped) == (Outcome.ABANDONED, True)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("reference", ["hostile:ignores_term", "hostile:returns_early_when_cancelled"])
async def test_when_a_cancelled_attempt_returns_its_workers_are_gone(
    tmp_path: Path, mark: str, reference: str
) -> None:
    await cancelled_when_up(requested(tmp_path, reference), tmp_path, grace_s=0.3)
    assert marked.alive(mark) == []


async def test_a_current_directory_that_is_gone_fails_the_attempt(tmp_path: Path) -> None:
    request = requested(tmp_path, "ordinary:returns")
    gone = WorkerRequest(
        **{name: getattr(request, name) for name in request.__slots__} | {"cwd": tmp_path / "no"}
    )
    end = await attempt(gone, tmp_path)
    assert end.outcome is Outcome.FAILED
    assert "cannot start a worker process" in (end.reason or "")


def ended(cause: Cause, *, code: int | None = None, signal: int | None = None) -> Exit:
    return Exit(code, signal, True, 1 << 20, cause, "why")


RETURNED = Heard(Returned(type="end", kind="returned", value=5, stopping=False))
STOPPED = Heard(Returned(type="end", kind="returned", value=5, stopping=True))


@pytest.mark.parametrize(
    ("exit_", "heard", "timeout_s", "outcome"),
    [
        (ended(Cause.EXIT, code=0), RETURNED, None, Outcome.SUCCEEDED),
        (ended(Cause.DEADLINE, code=0), RETURNED, None, Outcome.SUCCEEDED),
        (ended(Cause.STOP, code=0), RETURNED, 1.0, Outcome.SUCCEEDED),
        (ended(Cause.STOP, code=0), STOPPED, 1.0, Outcome.TIMED_OUT),
        (ended(Cause.DEADLINE, code=0), STOPPED, None, Outcome.ABANDONED),
        (ended(Cause.DEADLINE, signal=9), RETURNED, None, Outcome.ABANDONED),
        (ended(Cause.STOP, signal=9), RETURNED, None, Outcome.CANCELLED),
        (ended(Cause.EXIT, code=0), STOPPED, None, Outcome.CANCELLED),
        (ended(Cause.EXIT, signal=signal.SIGTERM), Heard(), None, Outcome.FAILED),
        (ended(Cause.EXIT, signal=11), RETURNED, None, Outcome.FAILED),
        (ended(Cause.EXIT, code=1), RETURNED, None, Outcome.FAILED),
        (ended(Cause.GUARD_LOST), Heard(), None, Outcome.FAILED),
        (ended(Cause.REFUSED), Heard(), None, Outcome.ABANDONED),
        (ended(Cause.EXIT, code=0), Heard(RETURNED.end, "garbage"), None, Outcome.FAILED),
    ],
)
def test_a_job_counts_as_done_only_if_it_ended_before_it_was_stopped(
    exit_: Exit, heard: Heard, timeout_s: float | None, outcome: Outcome
) -> None:
    end = judge(exit_, heard, timeout_s=timeout_s)
    assert end.outcome is outcome
    assert (end.result == 5) == (outcome is Outcome.SUCCEEDED)
    assert (end.reason is None) == (outcome is Outcome.SUCCEEDED)


async def test_a_worker_does_not_pay_for_asyncio_unless_its_job_uses_it(tmp_path: Path) -> None:
    """Importing it takes as long as all else that a worker imports."""

    end = await attempt(requested(tmp_path, "ordinary:imported", module="asyncio"), tmp_path)
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, False)
