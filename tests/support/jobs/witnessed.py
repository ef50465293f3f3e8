"""Jobs that leave lines behind that say who ran when, and with which fencing token."""

import json
import os
import signal
import time
from pathlib import Path

from leaderjob import JobContext, RetryLater, job


def witness(ctx: JobContext, effects: str, what: str) -> None:
    """One line, in one write: lines of several processes do not mix."""
    line = json.dumps(
        {
            "what": what,
            "job": ctx.job,
            "run": ctx.run_id,
            "attempt": ctx.attempt,
            "token": ctx.fencing_token,
            "fire_time": ctx.fire_time.isoformat() if ctx.fire_time else None,
            "pid": os.getpid(),
            "at": time.clock_gettime(time.CLOCK_BOOTTIME),
        }
    )
    descriptor = os.open(effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


def _work_until(ctx: JobContext, effects: str, gate: str) -> None:
    witness(ctx, effects, "began")
    ctx.progress(0, 1)
    while not Path(gate).exists():
        time.sleep(0.01)
    (ctx.artifact_dir() / "token").write_text(str(ctx.fencing_token))
    witness(ctx, effects, "ended")


@job(max_leader_losses=1)
def gated(ctx: JobContext, effects: str, gate: str) -> None:
    """Works until there is a file ``gate``, then publishes its fencing token."""
    _work_until(ctx, effects, gate)


@job
def gated_too(ctx: JobContext, effects: str, gate: str) -> None:
    """As ``gated``, for a test that must not wait for what another one left behind."""
    _work_until(ctx, effects, gate)


@job(on_leader_loss="abandon")
def at_most_once(ctx: JobContext, effects: str, gate: str) -> None:
    _work_until(ctx, effects, gate)


@job
def obedient(ctx: JobContext, effects: str, gate: str) -> None:
    """Works until there is a file ``gate``, or until it is asked to stop."""
    witness(ctx, effects, "began")
    while not ctx.cancelled and not Path(gate).exists():
        time.sleep(0.01)


@job
def stubborn(ctx: JobContext, effects: str) -> None:
    """Does not obey SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    witness(ctx, effects, "began")
    while True:
        time.sleep(1000)


@job(retries=3)
def put_off(ctx: JobContext, effects: str) -> None:
    """Asks to be tried again in an hour."""
    witness(ctx, effects, "began")
    raise RetryLater(3600.0, "not today")


@job
def quick(ctx: JobContext, effects: str) -> None:
    witness(ctx, effects, "began")


@job(schedule="every 2s")
def ticks(ctx: JobContext, effects: str) -> None:
    """Set ``effects`` in the settings."""
    witness(ctx, effects, "began")
