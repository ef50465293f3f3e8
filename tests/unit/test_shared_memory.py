"""Shared memory and semaphores that a job leaves behind do not stay, however its worker ends."""

from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime
from leaderjob.execution.ahead import WorkerAhead
from leaderjob.execution.attempt import AttemptEnd, run_attempt
from leaderjob.execution.protocol import WorkerRequest
from tests.support import marked

SUPPORT = Path(marked.__file__).parent


async def leave(tmp_path: Path, how: str, *, timeout_s: float = 50.0) -> tuple[AttemptEnd, list[Path]]:
    """How the attempt ended, and what it left in ``/dev/shm``."""
    end = await attempt(tmp_path, "leaves_shared_memory", timeout_s=timeout_s, how=how)
    memory, semaphore = (tmp_path / "artifacts" / "names").read_text().split()
    left = [Path("/dev/shm", memory), Path("/dev/shm", f"sem.{semaphore}")]
    return end, [path for path in left if path.exists()]


async def attempt(
    tmp_path: Path, job: str, *, timeout_s: float = 50.0, deadline: float = float("inf"), **params: Any
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
    async with WorkerAhead(log_path=tmp_path / "log", cwd=SUPPORT, grace_s=0.3) as worker:
        return await run_attempt(
            request,
            worker,
            timeout_s=timeout_s,
            trusted_until=lambda: deadline,
            on_progress=lambda progress: None,
        )


@pytest.mark.parametrize("how", ["returns", "crashes"])
async def test_nothing_stays_in_shared_memory_when_a_worker_ends(tmp_path: Path, how: str) -> None:
    end, left = await leave(tmp_path, how)
    assert end.reaped
    assert left == []


async def test_nothing_stays_in_shared_memory_when_a_worker_is_killed(tmp_path: Path) -> None:
    end, left = await leave(tmp_path, "hangs", timeout_s=8.0)
    assert end.reaped
    assert left == []


@pytest.mark.parametrize("until", ["its job returns", "its time is over", "the deadline"])
async def test_what_looks_like_a_tracker_does_not_outlive_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: str
) -> None:
    mark = marked.put_mark(monkeypatch)
    end = await attempt(
        tmp_path,
        "starts_what_looks_like_a_tracker",
        timeout_s=4.0 if until == "its time is over" else 50.0,
        deadline=boottime() + 4.0 if until == "the deadline" else float("inf"),
        hangs=until != "its job returns",
    )
    assert end.reaped
    assert marked.alive(mark) == []
