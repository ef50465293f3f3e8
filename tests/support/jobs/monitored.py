"""A job with a schedule that a monitor can express, and that is never too late."""

import time
from pathlib import Path

from leaderjob import JobContext, job


@job(schedule="@hourly", misfire_grace="30d", retries=1, on_leader_loss="restart")
def hourly(ctx: JobContext, begun: str, gate: str) -> None:
    """Works until there is a file ``gate``, and fails for what it says. Set both in the settings."""
    Path(begun).write_text(ctx.run_id)
    while not (path := Path(gate)).exists():
        time.sleep(0.01)
    if reason := path.read_text():
        raise LookupError(reason)
