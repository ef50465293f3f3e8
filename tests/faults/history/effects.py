"""Effects: what jobs under watch did, each a line of JSON that was written in the moment that it happened."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class What(StrEnum):
    """What a process of an attempt says of itself."""

    BEGAN = "began"
    BEAT = "beat"
    """It lives; about every 20 ms."""
    RESULT = "result"
    """It has written what is to be published, and returns next."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Effect:
    """:param at: ``CLOCK_BOOTTIME`` in seconds. :param token: the fencing token that the attempt was given.
    :param started: when the process started, in clock ticks since boot: with ``pid`` it names one process."""

    what: What
    at: float
    job: str
    run: str
    attempt: int
    token: int
    pid: int
    started: int
    fire_time: str | None = None

    @property
    def process(self) -> tuple[int, int]:
        return self.pid, self.started


def read_effects(paths: Iterable[Path]) -> tuple[Effect, ...]:
    """All effects in files of such lines, in the order of time. The last line of a process that was killed may
    be cut short, and is left out."""
    found = []
    for path in paths:
        for line in path.read_text(errors="replace").splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            at = fields.pop("at_ns") / 1e9
            found.append(Effect(what=What(fields.pop("what")), at=at, **fields))
    return tuple(sorted(found, key=lambda effect: effect.at))
