"""leaderjob's own recipes: one connection; a session of its own for who holds or waits."""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing

from contest.turns import TIMEOUT_S

from leaderjob.etcd import Etcd
from leaderjob.recipes import Lock, Message, Queue, Registry, Session, Timing, Topic
from leaderjob.recipes.registry import Followed
from tournament.peers.serving import answer_turns_in_loop
from tournament.turns import FOLLOWERS, SETTLE_S, TTL_S, VALUE, Outcomes, Stopwatch, Turn

Consume = Callable[[Queue], Coroutine[None, None, None]]

_TIMING = Timing(ttl_s=TTL_S)
_POLL_S = 0.01
_AT_A_TIME = 16
"""That register: what fits into one process, of 500 that stand for as many."""


class WithLeaderjob:
    """:param session: for all that needs no other one; opened long before it is used."""

    def __init__(self, etcd: Etcd, session: Session) -> None:
        self._etcd = etcd
        self._session = session

    async def lock(self, turn: Turn) -> Outcomes:
        lock = Lock(self._session, turn.name)
        latencies_s = []
        stopwatch = Stopwatch()
        for _ in range(turn.count):
            began_s = time.monotonic()
            async with lock:
                pass
            latencies_s.append(time.monotonic() - began_s)
        return {"each": stopwatch.outcome(latencies_s)}

    async def handover(self, turn: Turn) -> Outcomes:
        async with AsyncExitStack() as stack:
            sessions = [
                await stack.enter_async_context(await Session.open(self._etcd, _TIMING))
                for _ in range(turn.crowd)
            ]
            first = Lock(self._session, turn.name)
            held = await first.acquire()

            async def take(session: Session) -> None:
                async with Lock(session, turn.name):
                    pass

            waiters = [asyncio.create_task(take(session)) for session in sessions]
            await self._stand(turn.name, len(sessions) + 1)
            stopwatch = Stopwatch()
            await first.release(held)
            await asyncio.gather(*waiters)
            return {"all": stopwatch.outcome()}

    async def _stand(self, lock: str, count: int) -> None:
        """Return when so many stand in the line of a lock."""
        while len((await self._etcd.range(f"/leaderjob/default/locks/{lock}/")).kvs) < count:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        await asyncio.sleep(SETTLE_S)

    async def queue(self, turn: Turn) -> Outcomes:
        async def consume(queue: Queue) -> None:
            for _ in range(turn.count // turn.crowd):
                await queue.get()

        return await self._through_a_queue(turn, consume)

    async def claims(self, turn: Turn) -> Outcomes:
        async def consume(queue: Queue) -> None:
            for _ in range(turn.count // turn.crowd):
                claimed = await queue.claim()
                await claimed.ack()

        return await self._through_a_queue(turn, consume)

    async def _through_a_queue(self, turn: Turn, consume: Consume) -> Outcomes:
        async def produce(queue: Queue) -> None:
            for _ in range(turn.count // turn.crowd):
                await queue.put(VALUE)

        ends = [(Queue(self._session, turn.name), Queue(self._session, turn.name)) for _ in range(turn.crowd)]
        stopwatch = Stopwatch()
        async with asyncio.TaskGroup() as group:
            for one, other in ends:
                group.create_task(produce(one))
                group.create_task(consume(other))
        return {"all": stopwatch.outcome()}

    async def fan_out(self, turn: Turn) -> Outcomes:
        """To a topic of which everybody who subscribes keeps a count."""
        topic = Topic(self._etcd, turn.name)
        await topic.publish(VALUE)
        heard = Heard(turn.crowd)

        async def subscribe() -> None:
            async with aclosing(topic.subscribe(last=1)) as messages:
                async for message in messages:
                    assert isinstance(message, Message)
                    heard.one()

        subscribers = [asyncio.create_task(subscribe()) for _ in range(turn.crowd)]
        await heard.by_all()
        await asyncio.sleep(SETTLE_S)
        last_s, each_s = [], []
        stopwatch = Stopwatch()
        for number in range(turn.count):
            heard.again()
            began_s = time.monotonic()
            await topic.publish(b"%d" % number + VALUE)
            await heard.by_all()
            each_s += [at_s - began_s for at_s in heard.at_s]
            last_s.append(max(heard.at_s) - began_s)
        for subscriber in subscribers:
            subscriber.cancel()
        await asyncio.gather(*subscribers, return_exceptions=True)
        return {"last": stopwatch.outcome(last_s), "each": stopwatch.outcome(each_s)}

    async def registry(self, turn: Turn) -> Outcomes:
        """Each instance with the lease that its registration brings along."""
        registry = Registry(self._etcd, timing=_TIMING)
        addresses = iter(f"10.0.0.1:{port}" for port in range(1, 65536))
        async with AsyncExitStack() as stack:
            views = [
                await stack.enter_async_context(Registry(self._etcd).following(turn.name))
                for _ in range(FOLLOWERS)
            ]
            there = [AsyncExitStack() for _ in range(turn.crowd)]
            for one in there:
                stack.push_async_callback(one.aclose)

            at_a_time = asyncio.Semaphore(_AT_A_TIME)

            async def join(one: AsyncExitStack) -> None:
                async with at_a_time:
                    await one.enter_async_context(registry.register(turn.name, next(addresses)))

            stopwatch = Stopwatch()
            await asyncio.gather(*(join(one) for one in there), _seen(views, turn.crowd))
            outcomes = {"all": stopwatch.outcome()}
            await asyncio.sleep(SETTLE_S)
            join_s, leave_s = [], []
            for one in there[: turn.count]:
                leave_s.append(await _until_seen(one.aclose(), views, turn.crowd - 1))
                join_s.append(await _until_seen(join(one), views, turn.crowd))
            await asyncio.gather(*(one.aclose() for one in there))
            return outcomes | {"join": stopwatch.outcome(join_s), "leave": stopwatch.outcome(leave_s)}


class Heard:
    """Who of a crowd has heard, and when."""

    def __init__(self, crowd: int) -> None:
        self.at_s: list[float] = []
        self._crowd = crowd
        self._all = asyncio.Event()

    def again(self) -> None:
        self.at_s.clear()
        self._all.clear()

    def one(self) -> None:
        self.at_s.append(time.monotonic())
        if len(self.at_s) == self._crowd:
            self._all.set()

    async def by_all(self) -> None:
        await self._all.wait()


async def _until_seen(change: Coroutine[None, None, None], views: Sequence[Followed], count: int) -> float:
    """Seconds from the beginning of the change until all views show so many."""
    began_s = time.monotonic()
    changing = asyncio.create_task(change)
    await _seen(views, count)
    took_s = time.monotonic() - began_s
    await changing
    return took_s


async def _seen(views: Sequence[Followed], count: int) -> None:
    async def seen(view: Followed) -> None:
        instances = view.instances
        while len(instances) != count:
            instances = await view.changed(instances)

    await asyncio.gather(*map(seen, views))


async def main(host: str, port: str) -> None:
    async with (
        Etcd([f"{host}:{port}"], call_timeout_s=TIMEOUT_S) as etcd,
        await Session.open(etcd, _TIMING) as session,
    ):
        ours = WithLeaderjob(etcd, session)
        await answer_turns_in_loop(
            {
                "lock": ours.lock,
                "handover": ours.handover,
                "queue": ours.queue,
                "claims": ours.claims,
                "fan-out": ours.fan_out,
                "registry": ours.registry,
            }
        )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
