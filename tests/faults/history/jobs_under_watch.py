"""Jobs that say what they do in the moment that they do it: see ``effects.py``. For :class:`Watched`."""

import json
import os
import signal
import time
from pathlib import Path

from leaderjob import JobContext, job

_BEAT_S = 0.02


def process_started(pid: int) -> int:
    """When a process started, in clock ticks since boot. :raises FileNotFoundError: there is none."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


class Witness:
    """Writes the effects of one attempt: a line in one write, so that those of several processes do not mix."""

    def __init__(self, ctx: JobContext, effects: str) -> None:
        self._identity = {
            "job": ctx.job,
            "run": ctx.run_id,
            "attempt": ctx.attempt,
            "token": ctx.fencing_token,
            "fire_time": ctx.fire_time.isoformat() if ctx.fire_time else None,
        }
        self._descriptor = os.open(effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._process = {"pid": os.getpid(), "started": process_started(os.getpid())}

    def forked(self) -> None:
        """This is another process now."""
        self._process = {"pid": os.getpid(), "started": process_started(os.getpid())}

    def tell(self, what: str) -> None:
        at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        line = json.dumps({"what": what, "at_ns": at_ns, **self._identity, **self._process})
        os.write(self._descriptor, line.encode() + b"\n")

    def live(self, seconds: float) -> None:
        until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
        while time.clock_gettime(time.CLOCK_BOOTTIME) < until:
            self.tell("beat")
            time.sleep(_BEAT_S)


@job(schedule="every 3s")
def builds(ctx: JobContext, effects: str, seconds: float = 1.0) -> None:
    """Works for a while, and publishes a file that says which run made it."""
    witness = Witness(ctx, effects)
    witness.tell("began")
    witness.live(seconds)
    made = {"run": ctx.run_id, "attempt": ctx.attempt, "token": ctx.fencing_token}
    (ctx.artifact_dir() / "run.json").write_text(json.dumps(made))
    witness.tell("result")
    witness.tell("ended")


@job(schedule="every 1s")
def ticks(ctx: JobContext, effects: str) -> None:
    """Over at once, without a result."""
    witness = Witness(ctx, effects)
    witness.tell("began")
    witness.tell("ended")


@job(schedule="every 4s")
def escapes(ctx: JobContext, effects: str, seconds: float = 1.0) -> None:
    """Does not obey SIGTERM, and leaves a process behind that has fled to a session of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    witness = Witness(ctx, effects)
    witness.tell("began")
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            witness.forked()
            witness.live(3600.0)
        os._exit(0)
    os.waitpid(child, 0)
    witness.live(seconds)
    witness.tell("ended")
