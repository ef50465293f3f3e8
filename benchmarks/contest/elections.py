"""What a campaign and a handover cost, in round trips.

Two counts. *Waited for*: the answers that came between the beginning and the win, one after the other, as the
client tells them. *In all*: what the server itself says was begun (its metrics), keepalives, confirmations and
watches included. Times are divided by that of a get with the bare stubs, taken just before.

All candidates live in this process, each with a connection of its own.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from contest.server import started, watchers
from contest.stage import FENCE, Stage
from leaderjob.etcd import Etcd
from leaderjob.recipes import Election, Leadership, Session, Timing

_PREFIX = "bench/election/"
_TIMING = Timing()
_ROUND_TRIPS = 20
_POLL_S = 0.005
_SETTLE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ElectionCost:
    """Medians over the repetitions.

    :param waited_for: answers, one after the other, until the office was won.
    :param in_all: what was begun on the server, per method, once all had settled.
    """

    what: str
    waited_for: float
    in_all: dict[str, float]
    took_s: float
    round_trips: float


@dataclass(frozen=True, slots=True)
class _Sample:
    waited_for: int
    in_all: Counter[str]
    took_s: float
    round_trip_s: float


class _Candidate:
    """A client, its session and its campaign. Counts the answers that it gets."""

    def __init__(self, etcd: Etcd, session: Session) -> None:
        self.answers = 0
        self.won_s = 0.0
        self._session = session
        self.election = Election.below(etcd, _PREFIX)
        etcd.connection.on_round_trip = self._answered

    def _answered(self, _: float) -> None:
        self.answers += 1

    async def campaign(self) -> Leadership:
        leadership = await self.election.campaign(self._session, b"")
        self.won_s = time.monotonic()
        return leadership


async def measure_elections(endpoint: str, stage: Stage, *, handovers: int) -> list[ElectionCost]:
    """A campaign that nobody disputes, a handover to the only one who waits, and one where many wait."""
    costs = [
        _cost(
            "campaign, nobody else stands",
            [await _undisputed(endpoint, stage) for _ in range(handovers)],
        )
    ]
    for waiting in (1, 16):
        samples = await _hand_over(endpoint, stage, waiting=waiting, times=handovers)
        costs.append(_cost(f"handover, {waiting} waiting", samples))
    return costs


async def _undisputed(endpoint: str, stage: Stage) -> _Sample:
    async with AsyncExitStack() as stack:
        candidate = await _candidate(endpoint, stack)
        round_trip_s = await _round_trip_s(stage)
        before, answers = await started(endpoint), candidate.answers
        began_s = time.monotonic()
        leadership = await candidate.campaign()
        waited_for = candidate.answers - answers
        await _confirmed(leadership, leadership.trusted_until)
        in_all = await started(endpoint) - before
        await candidate.election.resign(leadership)
        return _Sample(waited_for, in_all, candidate.won_s - began_s, round_trip_s)


async def _hand_over(endpoint: str, stage: Stage, *, waiting: int, times: int) -> list[_Sample]:
    """One leads and ``waiting`` others wait; who has led stands again, behind all others."""
    samples = []
    async with AsyncExitStack() as stack:
        leader = await _candidate(endpoint, stack)
        leadership = await leader.campaign()
        followers = [await _candidate(endpoint, stack) for _ in range(waiting)]
        queue: list[tuple[_Candidate, asyncio.Task[Leadership]]] = []
        for follower in followers:
            queue.append((follower, asyncio.create_task(follower.campaign())))
            await _watched(endpoint, len(queue))
        for _ in range(times):
            round_trip_s = await _round_trip_s(stage)
            following, win = queue.pop(0)
            before, answers = await started(endpoint), leader.answers + following.answers
            began_s = time.monotonic()
            await leader.election.resign(leadership)
            next_leadership = await win
            waited_for = leader.answers + following.answers - answers
            await _confirmed(next_leadership, next_leadership.trusted_until)
            in_all = await started(endpoint) - before
            samples.append(_Sample(waited_for, in_all, following.won_s - began_s, round_trip_s))
            queue.append((leader, asyncio.create_task(leader.campaign())))
            leader, leadership = following, next_leadership
            await _watched(endpoint, len(queue))
        for _, campaign in queue:
            campaign.cancel()
        await asyncio.gather(*(campaign for _, campaign in queue), return_exceptions=True)
        await leader.election.resign(leadership)
    return samples


async def _candidate(endpoint: str, stack: AsyncExitStack) -> _Candidate:
    etcd = await stack.enter_async_context(Etcd([endpoint]))
    session = await stack.enter_async_context(await Session.open(etcd, _TIMING))
    granted_at = session.acknowledged_at
    await _until(lambda: session.acknowledged_at > granted_at)
    return _Candidate(etcd, session)


async def _round_trip_s(stage: Stage) -> float:
    taken_s = []
    for _ in range(_ROUND_TRIPS):
        began_s = time.monotonic()
        await stage.get(FENCE)
        taken_s.append(time.monotonic() - began_s)
    return statistics.median(taken_s)


async def _confirmed(leadership: Leadership, trusted_until: float) -> None:
    """Wait for the first keepalive of the term and the read that confirms it."""
    await _until(lambda: leadership.trusted_until > trusted_until)


async def _watched(endpoint: str, waiting: int) -> None:
    """Wait until everybody who waits watches two keys, the one before and the own: then they are settled."""
    async with asyncio.timeout(_SETTLE_TIMEOUT_S):
        while await watchers(endpoint) != 2 * waiting:  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(_POLL_S)


async def _until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(_SETTLE_TIMEOUT_S):
        while not happened():  # noqa: ASYNC110 - there is no event for it, and nothing is timed by it
            await asyncio.sleep(_POLL_S)


def _cost(what: str, samples: list[_Sample]) -> ElectionCost:
    methods = sorted({method for sample in samples for method, count in sample.in_all.items() if count})
    return ElectionCost(
        what=what,
        waited_for=statistics.median(sample.waited_for for sample in samples),
        in_all={method: statistics.median(sample.in_all[method] for sample in samples) for method in methods},
        took_s=statistics.median(sample.took_s for sample in samples),
        round_trips=statistics.median(sample.took_s / sample.round_trip_s for sample in samples),
    )
