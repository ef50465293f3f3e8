"""What is measured: each event is one turn of each entrant per round, and shown as one row or more."""

from dataclasses import dataclass, replace
from typing import Self

LOCK, HANDOVER, QUEUE, CLAIMS, FAN_OUT, REGISTRY = KINDS = (
    "lock",
    "handover",
    "queue",
    "claims",
    "fan-out",
    "registry",
)


@dataclass(frozen=True, slots=True)
class Measure:
    """:param answer: its name in what an entrant answers. :param row: how it is called, ``{crowd}`` filled in.
    :param by_latency: whether the median latency is what counts, or how long all of it took.
    :param per_crowd: whether what is done counts as often as the crowd is large.
    :param judged: whether we have to be ahead.
    """

    answer: str
    row: str
    by_latency: bool = True
    per_crowd: bool = False
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """See ``tournament.turns.Turn``. :param crowd_stays: also when it is made smaller."""

    kind: str
    count: int
    crowd: int
    measures: tuple[Measure, ...]
    crowd_stays: bool = True
    timeout_s: float = 40.0

    def repeated_less(self, divisor: int) -> Self:
        return replace(self, count=max(1, self.count // divisor))

    def divided_by(self, divisor: int) -> Self:
        crowd = self.crowd if self.crowd_stays else max(1, self.crowd // divisor)
        return replace(self, count=max(2, self.count // divisor), crowd=crowd)

    def row(self, measure: Measure) -> str:
        return measure.row.format(crowd=self.crowd)

    def repetitions(self, measure: Measure) -> int:
        """How many things one turn of it does."""
        return self.crowd if measure.per_crowd else self.count


def events() -> list[Event]:
    """All of them."""
    return [
        Event(LOCK, 100, 1, (Measure("each", "lock and unlock"),)),
        Event(
            HANDOVER,
            1,
            50,
            (Measure("all", "lock, {crowd} waiting: handovers", by_latency=False, per_crowd=True),),
            crowd_stays=False,
        ),
        Event(QUEUE, 400, 1, (Measure("all", "queue, put and get: 1 and 1", by_latency=False),)),
        Event(QUEUE, 400, 8, (Measure("all", "queue, put and get: {crowd} and {crowd}", by_latency=False),)),
        Event(
            CLAIMS, 400, 8, (Measure("all", "queue, put, claim, ack: {crowd} and {crowd}", by_latency=False),)
        ),
        Event(
            FAN_OUT,
            8,
            200,
            (
                Measure("last", "publish until all {crowd} have it"),
                Measure("each", "publish until one of {crowd} has it"),
            ),
            crowd_stays=False,
        ),
        Event(
            REGISTRY,
            5,
            500,
            (
                Measure("join", "registry: the last of {crowd} joins"),
                Measure("leave", "registry: one of {crowd} leaves"),
                Measure(
                    "all", "registry: {crowd} join at once", by_latency=False, per_crowd=True, judged=False
                ),
            ),
            crowd_stays=False,
        ),
    ]
