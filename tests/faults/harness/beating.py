"""Jobs that show in a file who was alive when: so that two at a time are seen whatever the ledger says."""

import json
import os
import signal
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from leaderjob import JobContext, job
from leaderjob.execution.process_tree import parent_of
from tests.support.jobs.witnessed import witness

BEAT_S = 0.02


@job(max_leader_losses=1000)
def beats(ctx: JobContext, effects: str, gate: str) -> None:
    """A line every 20 ms, until there is a file ``gate``."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing but a kill may end it early
    witness(ctx, effects, "began")
    while not Path(gate).exists():
        time.sleep(BEAT_S)
        witness(ctx, effects, "beat")


@job(max_leader_losses=1000)
def beats_and_returns(ctx: JobContext, effects: str, gate: str) -> int:
    """The same, with a result."""
    beats(ctx, effects, gate)
    return ctx.attempt


@job(max_leader_losses=2)
def kills_its_replica(ctx: JobContext, effects: str) -> None:
    witness(ctx, effects, "began")
    os.kill(parent_of(os.getppid()), signal.SIGKILL)
    time.sleep(1000)


@job(schedule="every 1s")
def ticks(ctx: JobContext, effects: str) -> None:
    """Set ``effects`` in the settings."""
    witness(ctx, effects, "began")


def lives(effects: Path) -> list[tuple[float, float]]:
    """The first and the last sign of life of each process, on ``CLOCK_BOOTTIME``, in the order of the first."""
    found: dict[int, list[float]] = {}
    for line in whole(effects):
        found.setdefault(line["pid"], []).append(line["at"])
    return sorted((min(times), max(times)) for times in found.values())


def never_two(lives: Iterable[tuple[float, float]]) -> bool:
    """Whether each had shown its last sign of life before the next one showed its first."""
    ordered = sorted(lives)
    return all(last < first for (_, last), (first, _) in pairwise(ordered))


def whole(effects: Path) -> list[dict[str, Any]]:
    """The lines of a file that is being written to, in the order of time."""
    if not effects.exists():
        return []
    text = effects.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
