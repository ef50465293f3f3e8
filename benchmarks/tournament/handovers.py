"""What one handover of a lock costs in round trips, while many wait.

*Waited for* are the answers that come between the beginning of the release and the next one's having it, one after
the other, as the two clients tell them. *In all* is what the server itself says was begun meanwhile (its metrics),
without the keepalives of those who wait. Times are divided by that of a get, taken just before.

All of them live in the benchmark's process, each with a connection of its own.
"""

import asyncio
import statistics
import time
from collections import Counter, deque
from contextlib import AsyncExitStack
from dataclasses import dataclass

from contest.server import started, watchers

from leaderjob.etcd import Etcd
from leaderjob.recipes import Lock, Session, Timing
from leaderjob.recipes.line import Held
from tournament.turns import TTL_S

_NAME = "round-trips"
_ROUND_TRIPS = 20
_POLL_S = 0.005
_SETTLE_TIMEOUT_S = 10.0
_KEEPALIVE = "LeaseKeepAlive"


@dataclass(frozen=True, slots=True)
class HandoverCost:
    """Medians over the handovers.

    :param waiting: how many. :param waited_for: answers, one after the other, until the next one has it.
    :param in_all: what was begun on the server, per method. :param round_trips: as many gets take as long.
    """

    waiting: int
    handovers: int
    waited_for: float
    in_all: dict[str, float]
    took_s: float
    round_trips: float


class _Waiter:
    """A client, its session, and the lock. Counts the answers that it gets."""

    def __init__(self, etcd: Etcd, session: Session) -> None:
        self.answers = 0
        self.got_s = 0.0
        self.etcd = etcd
        self._lock = Lock(session, _NAME)
        etcd.connection.on_round_trip = self._answered

    def _answered(self, _: float) -> None:
        self.answers += 1

    async def acquire(self) -> Held:
        held = await self._lock.acquire()
        self.got_s = time.monotonic()
        return held

    async def release(self, held: Held) -> None:
        await self._lock.release(held)


@dataclass(frozen=True, slots=True)
class _Sample:
    waited_for: int
    in_all: Counter[str]
    took_s: float
    round_trip_s: float


async def measure_handovers(endpoint: str, *, waiting: int, times: int) -> HandoverCost:
    """One holds the lock and ``waiting`` others wait; who has had it stands again, behind all others.

    :raises LeaderjobError: etcd fails. :raises TimeoutError: not all came to stand in line.
    """
    samples = []
    async with AsyncExitStack() as stack:
        holder = await _waiter(endpoint, stack)
        held = await holder.acquire()
        line: deque[tuple[_Waiter, asyncio.Task[Held]]] = deque()
        for _ in range(waiting):
            await _stand(await _waiter(endpoint, stack), line, endpoint)
        for _ in range(times):
            following, acquired = line.popleft()
            round_trip_s = await _round_trip_s(holder.etcd)
            before, answers = await started(endpoint), holder.answers + following.answers
            began_s = time.monotonic()
            await holder.release(held)
            next_held = await acquired
            waited_for = holder.answers + following.answers - answers
            in_all = await started(endpoint) - before
            samples.append(_Sample(waited_for, in_all, following.got_s - began_s, round_trip_s))
            await _stand(holder, line, endpoint)
            holder, held = following, next_held
        for _, acquired in line:
            acquired.cancel()
        await asyncio.gather(*(acquired for _, acquired in line), return_exceptions=True)
        await holder.release(held)
    return _cost(waiting, samples)


async def _waiter(endpoint: str, stack: AsyncExitStack) -> _Waiter:
    etcd = await stack.enter_async_context(Etcd([endpoint]))
    session = await stack.enter_async_context(await Session.open(etcd, Timing(ttl_s=TTL_S)))
    return _Waiter(etcd, session)


async def _stand(waiter: _Waiter, line: "deque[tuple[_Waiter, asyncio.Task[Held]]]", endpoint: str) -> None:
    """Put it at the end, and wait until all watch two keys: the one before, and the own."""
    line.append((waiter, asyncio.create_task(waiter.acquire())))
    async with asyncio.timeout(_SETTLE_TIMEOUT_S):
        while await watchers(endpoint) != 2 * len(line):  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(_POLL_S)


async def _round_trip_s(etcd: Etcd) -> float:
    taken_s = []
    for _ in range(_ROUND_TRIPS):
        began_s = time.monotonic()
        await etcd.get(_NAME)
        taken_s.append(time.monotonic() - began_s)
    return statistics.median(taken_s)


def _cost(waiting: int, samples: list[_Sample]) -> HandoverCost:
    methods = sorted({method for sample in samples for method in sample.in_all} - {_KEEPALIVE})
    medians = {method: statistics.median(sample.in_all[method] for sample in samples) for method in methods}
    return HandoverCost(
        waiting=waiting,
        handovers=len(samples),
        waited_for=statistics.median(sample.waited_for for sample in samples),
        in_all={method: count for method, count in medians.items() if count},
        took_s=statistics.median(sample.took_s for sample in samples),
        round_trips=statistics.median(sample.took_s / sample.round_trip_s for sample in samples),
    )
