"""What a queue has to be, as a list; and consumers of a real one, held against it."""

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from leaderjob.etcd import Etcd
from leaderjob.recipes import Claimed, Queue, QueueEmpty, Session
from tests.support.candidates import TIMING
from tests.support.queues import Counter
from tests.support.unanswered import Unanswered

MAX_TRIES = 3


@dataclass
class Modelled:
    """An item: who has it, by the token of the claim."""

    id: str
    tries: int = 0
    token: int | None = None


@dataclass
class Model:
    """Oldest first."""

    items: list[Modelled] = field(default_factory=list)
    dead: list[tuple[str, int]] = field(default_factory=list)
    consumed: list[str] = field(default_factory=list)

    def next(self, *, newest_first: bool) -> Modelled | None:
        """The item that a consumer has to be given; those before it that were tried too often are buried."""
        for item in list(reversed(self.items) if newest_first else self.items):
            if item.token is not None:
                continue
            if item.tries < MAX_TRIES:
                return item
            self.bury(item)
        return None

    def bury(self, item: Modelled) -> None:
        self.items.remove(item)
        self.dead.append((item.id, item.tries))

    def claimed_by(self, token: int) -> Modelled | None:
        return next((item for item in self.items if item.token == token), None)

    def free(self, tokens: set[int]) -> None:
        for item in self.items:
            if item.token in tokens:
                item.token = None


class Consumer:
    """One process with a queue, which may crash and come back with another session."""

    def __init__(self, counter: Counter, *, newest_first: bool) -> None:
        self.newest_first = newest_first
        self.claimed: list[Claimed] = []
        self.client = Unanswered([counter.endpoint])
        self._counter = counter
        self._stack = AsyncExitStack()
        self.session: Session
        self.queue: Queue

    async def start(self) -> None:
        await self._stack.enter_async_context(self.client)
        self.session = await self._stack.enter_async_context(await Session.open(self.client, TIMING))
        self.queue = self._counter.queue(self.session, newest_first=self.newest_first, max_tries=MAX_TRIES)

    async def stop(self) -> None:
        """Close the session; what was sent and not delivered may still be."""
        self.client.fates.clear()
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        self.claimed.clear()
        self.client = Unanswered([self._counter.endpoint])
        self._stack = AsyncExitStack()
        await self.start()


class Office:
    """A queue, its consumers and its model."""

    def __init__(self, counter: Counter, count: int) -> None:
        self.counter = counter
        self.model = Model()
        self.operator = Etcd([counter.endpoint])
        self.consumers = [Consumer(counter, newest_first=number == 1) for number in range(count)]

    async def put(self, consumer: Consumer) -> None:
        self.model.items.append(Modelled(await consumer.queue.put(b"")))

    async def get(self, consumer: Consumer) -> None:
        due = self.model.next(newest_first=consumer.newest_first)
        try:
            got = await consumer.queue.get(wait_s=0)
        except QueueEmpty:
            assert due is None, f"{due} was not handed out"
            return
        assert due is not None and (got.id, got.tries) == (due.id, due.tries)
        self.model.items.remove(due)
        self.model.consumed.append(due.id)

    async def claim(self, consumer: Consumer) -> None:
        due = self.model.next(newest_first=consumer.newest_first)
        try:
            claimed = await consumer.queue.claim(wait_s=0)
        except QueueEmpty:
            assert due is None, f"{due} was not handed out"
            return
        assert due is not None and (claimed.id, claimed.tries) == (due.id, due.tries + 1)
        due.tries, due.token = due.tries + 1, claimed.token
        consumer.claimed.append(claimed)

    async def check(self) -> None:
        """The store has what the model has, in its order."""
        items, claims, dead = [await self.counter.keys(part) for part in ("items/", "claims/", "dead/")]
        stored = [(_id(kv.key), json.loads(kv.value)["tries"]) for kv in items]
        assert stored == [(item.id, item.tries) for item in self.model.items]
        tokens = {(_id(kv.key), kv.create_revision) for kv in claims}
        assert tokens == {(item.id, item.token) for item in self.model.items if item.token is not None}
        assert [(_id(kv.key), json.loads(kv.value)["tries"]) for kv in dead] == self.model.dead
        assert len(set(self.model.consumed)) == len(self.model.consumed)


def _id(key: str) -> str:
    return key.rpartition("/")[2]
