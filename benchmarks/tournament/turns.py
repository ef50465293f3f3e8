"""What an entrant is asked to do, and what it answers: JSON lines between two processes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contest.turns import Outcome

TTL_S = 10
"""Of the sessions of everybody who can be told one: that of leaderjob by default."""

SETTLE_S = 0.3
"""Given to everybody once all stand in line or follow: nothing tells when the last one's watch is established."""

FOLLOWERS = 20
"""Who each keep a view of the registry."""

VALUE = b"." * 128
"""Of an item and of a message."""

Outcomes = Mapping[str, Outcome]
"""Of one turn, by what was measured: see ``tournament.events``."""


@dataclass(frozen=True, slots=True)
class Turn:
    """:param kind: "lock", "handover", "queue", "claims", "fan-out" or "registry".
    :param name: of the lock, the queue, the topic or the service: another one in each turn.
    :param count: how often, or how many items. :param crowd: how many wait, or work at either end of a queue, or
        subscribe, or register.
    """

    kind: str
    name: str
    count: int
    crowd: int


class Stopwatch:
    """Runs from its creation on."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._began_cpu_s = time.process_time()

    def outcome(self, latencies_s: Sequence[float] = ()) -> Outcome:
        """What it shows."""
        cpu_s = time.process_time() - self._began_cpu_s
        return Outcome(self._began_s, time.monotonic(), cpu_s, list(latencies_s))
