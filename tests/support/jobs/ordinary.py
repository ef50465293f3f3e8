"""Jobs as people write them."""

import sys
import time
from pathlib import Path
from typing import Any

from leaderjob import JobContext, Permanent, RetryLater, job


@job
def returns(ctx: JobContext, value: Any = None) -> Any:
    print("a line for the log")  # noqa: T201 - jobs print
    ctx.log.info("a record for the log")
    return value


@job
async def returns_from_a_coroutine(ctx: JobContext, value: int) -> int:
    return value + 1


@job
def tells_its_context(ctx: JobContext) -> dict[str, Any]:
    (ctx.artifact_dir() / "made").write_text("x")
    previous = ctx.previous()
    return {
        "job": ctx.job,
        "run_id": ctx.run_id,
        "attempt": ctx.attempt,
        "fencing_token": ctx.fencing_token,
        "fire_time": None if ctx.fire_time is None else ctx.fire_time.isoformat(),
        "previous": None if previous is None else str(previous),
        "cwd": str(Path.cwd()),
        "stdin": sys.stdin.read(),
        "cancelled": ctx.cancelled,
    }


@job
def tells_what_is_imported(ctx: JobContext) -> list[str]:
    return sorted(sys.modules)


@job
def raises(ctx: JobContext) -> None:
    _divide(1, 0)


def _divide(dividend: int, divisor: int) -> float:
    return dividend / divisor


@job
def asks_to_retry_later(ctx: JobContext, delay_s: Any) -> None:
    raise RetryLater(delay_s, "the other side is busy")


@job
def fails_for_good(ctx: JobContext) -> None:
    raise Permanent("there is no such table")


@job
def reports(ctx: JobContext, times: int) -> None:
    for done in range(1, times + 1):
        ctx.progress(done, times, f"step {done}")


@job
def reports_and_waits(ctx: JobContext, times: int, until: str) -> None:
    reports(ctx, times)
    while not Path(until).exists():
        time.sleep(0.01)


@job
def reports_nonsense(ctx: JobContext) -> None:
    ctx.progress(float("nan"), 1)


@job
def imported(ctx: JobContext, module: str) -> bool:
    return module in sys.modules
