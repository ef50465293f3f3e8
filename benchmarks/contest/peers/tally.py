"""Counts what a watch tells, and knows when it was enough."""

import sys
import time
from collections.abc import Callable

from contest.turns import HELLO, Outcome, Watching, stamp_s

Told = Callable[[bytes, bytes | None], bool]
"""Is given the value of an event and the one before it, if there was one; says whether it was enough."""


class Tally:
    """Knows which event was the last one that was waited for."""

    def __init__(self, turn: Watching) -> None:
        self._events_left = turn.events
        self._timed = turn.timed
        self._greeted = False
        self._latencies_s: list[float] = []
        self._began_s = time.monotonic()
        self._began_cpu_s = time.process_time()

    def told(self, value: bytes, before: bytes | None) -> bool:
        if value == HELLO:
            if not self._greeted:
                self._greeted = True
                say("greeted")
            return False
        if self._timed:
            self._latencies_s.append(time.monotonic() - stamp_s(value))
        self._events_left -= 1
        return self._events_left == 0

    def outcome(self) -> Outcome:
        return Outcome(
            self._began_s, time.monotonic(), time.process_time() - self._began_cpu_s, self._latencies_s
        )


def say(line: str) -> None:
    """To the benchmark, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
