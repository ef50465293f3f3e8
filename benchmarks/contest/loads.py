"""What is measured: each load is one turn of each contestant per round."""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Protocol, Self

from contest.player import Player
from contest.stage import FENCE, FLOODED, HISTORY, PROBED, Stage
from contest.turns import Calls, Outcome, Watching

_TURN_TIMEOUT_S = 20.0
_GREETING_TIMEOUT_S = 5.0


class Load(Protocol):
    """:param count: calls or events of one turn."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int: ...

    @property
    def judged_by_latency(self) -> bool:
        """Whether the median latency is what counts, or how long all of it takes."""

    def divided_by(self, divisor: int) -> Self: ...

    async def play(self, player: Player, stage: Stage) -> Outcome:
        """:raises TurnFailed: the contestant did not do it."""


@dataclass(frozen=True, slots=True)
class CallLoad:
    kind: str
    in_flight: int
    count: int

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.in_flight} in flight"

    @property
    def judged_by_latency(self) -> bool:
        return self.in_flight == 1

    def divided_by(self, divisor: int) -> Self:
        return replace(self, count=max(self.in_flight, self.count // divisor))

    async def play(self, player: Player, stage: Stage) -> Outcome:
        turn = Calls(self.kind, self.count, self.in_flight, FENCE, stage.fence_revision)
        return await player.take(turn, timeout_s=_TURN_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class ReplayLoad:
    """Everything that has happened below a prefix, from the beginning."""

    count: int
    name: str = "watch, replay"
    judged_by_latency: bool = False

    def divided_by(self, divisor: int) -> Self:
        return replace(self, count=max(1, self.count // divisor))

    async def play(self, player: Player, stage: Stage) -> Outcome:
        turn = Watching(HISTORY, stage.history_since, self.count, timed=False)
        return await player.take(turn, timeout_s=_TURN_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class ProbeLoad:
    """How long after it was sent an event is told, one event after the other."""

    count: int
    name: str = "watch, one event"
    judged_by_latency: bool = True

    def divided_by(self, divisor: int) -> Self:
        return replace(self, count=max(1, self.count // divisor))

    async def play(self, player: Player, stage: Stage) -> Outcome:
        await _begin_watching(player, stage, PROBED, self.count, timed=True)
        await stage.probe(self.count)
        return await player.outcome(timeout_s=_TURN_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class FloodLoad:
    """Many events at once, while one watches; from when the first of them is sent."""

    count: int
    name: str = "watch, live"
    judged_by_latency: bool = False

    def divided_by(self, divisor: int) -> Self:
        return replace(self, count=max(1, self.count // divisor))

    async def play(self, player: Player, stage: Stage) -> Outcome:
        await _begin_watching(player, stage, FLOODED, self.count, timed=False)
        began_s = time.monotonic()
        await stage.flood(self.count)
        outcome = await player.outcome(timeout_s=_TURN_TIMEOUT_S)
        return replace(outcome, began_s=began_s)


async def _begin_watching(player: Player, stage: Stage, prefix: str, events: int, *, timed: bool) -> None:
    """Return once the contestant's watch is established, and told something."""
    since = await stage.put(FENCE, b"")
    await player.begin(Watching(prefix, since, events, timed=timed))
    greeted = asyncio.ensure_future(player.greeted(timeout_s=_GREETING_TIMEOUT_S))
    await stage.greet(prefix, greeted)
    greeted.result()


def loads(*, replayed: int) -> list[Load]:
    """All of them. :param replayed: how many events there are to replay."""
    return [
        *(CallLoad(kind, 1, 200) for kind in ("get", "put", "txn")),
        *(CallLoad(kind, 32, 640) for kind in ("get", "put", "txn")),
        ProbeLoad(40),
        ReplayLoad(replayed),
        FloodLoad(5_000),
    ]
