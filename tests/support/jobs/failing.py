"""Jobs that fail, each in one way, and one that tells how far it is."""

import time
from pathlib import Path

from leaderjob import JobContext, Permanent, RetryLater, job


@job(retries=2)
def recovers(ctx: JobContext, failures: int) -> dict[str, int]:
    if ctx.attempt <= failures:
        raise RetryLater(0.05, f"attempt {ctx.attempt} came too early")
    return {"attempt": ctx.attempt}


@job(retries=1)
def breaks(ctx: JobContext) -> None:
    raise RuntimeError("the disk is on fire")


@job(retries=3)
def fails_for_good(ctx: JobContext) -> None:
    raise Permanent("there is no such table")


@job(timeout="400ms")
def too_slow(ctx: JobContext) -> None:
    time.sleep(1000)


@job
def reports(ctx: JobContext, gate: str) -> None:
    ctx.progress(3, 7, "three of seven")
    while not Path(gate).exists():
        time.sleep(0.01)
