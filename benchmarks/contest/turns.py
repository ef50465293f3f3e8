"""What a contestant is asked to do, and what it answers: JSON lines between two processes."""

from dataclasses import dataclass

TIMEOUT_S = 2.0
"""The deadline of every call, of every contestant that knows deadlines: that of leaderjob's client."""

STAMP_BYTES = 20
VALUE_BYTES = 128
HELLO = b"hello"
"""The value of an event that only shows that the watch is established."""

KEYS = 1000
"""How many keys the calls go round."""


def key(kind: str, number: int) -> str:
    return f"bench/{kind}/{number % KEYS:04d}"


def stamped(monotonic_s: float) -> bytes:
    """A value that says when it was sent, on the clock that all processes of a machine share."""
    return f"{monotonic_s:{STAMP_BYTES}.9f}".encode().ljust(VALUE_BYTES, b".")


def stamp_s(value: bytes) -> float:
    """When the value was sent. :raises ValueError: it is none that :func:`stamped` made."""
    return float(value[:STAMP_BYTES])


@dataclass(frozen=True, slots=True)
class Calls:
    """``calls`` times ``kind`` ("get", "put" or "txn"), ``in_flight`` at a time.

    :param fence_revision: the create revision of the key ``fence``, which a transaction compares.
    """

    kind: str
    calls: int
    in_flight: int
    fence: str
    fence_revision: int


@dataclass(frozen=True, slots=True)
class Watching:
    """Watch ``prefix`` from the revision after ``since`` until ``events`` events were told.

    Greetings are not counted; the first one is answered by a line of its own.

    :param timed: also say, per event, how long after it was sent it was told.
    """

    prefix: str
    since: int
    events: int
    timed: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """When a turn began and ended, by the clock that all processes share, and its latencies in seconds.

    :param cpu_s: processor time of the contestant's process, all its threads together.
    """

    began_s: float
    ended_s: float
    cpu_s: float
    latencies_s: list[float]

    @property
    def elapsed_s(self) -> float:
        return self.ended_s - self.began_s
