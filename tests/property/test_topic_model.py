"""Random publications, trims, compactions and faults, while some read: none lost in silence, none twice, in order."""

import asyncio
import secrets
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from typing import Protocol

from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import AmbiguousWrite, Etcd, EtcdUnavailable
from leaderjob.etcd.rpc import rpc
from leaderjob.recipes import Message, Missed, Subscription, Topic, Unsettled
from tests.property.profile import profile
from tests.property.proxied import proxied
from tests.support.cuttable import Cuttable
from tests.support.streams import run_with_streams

_KEEP = 5
_CALL_TIMEOUT_S = 0.3


@dataclass
class Reader:
    """Reads by one subscription, handles what it gets, and after :meth:`restart` continues where it stopped."""

    topic: Topic
    name: str
    proxy: Cuttable
    got: list[Message] = field(default_factory=list)
    missed: int = 0
    handled: int = 0
    """How many messages its cursor is past."""
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        subscription = await self.topic.subscription(self.name)
        async with aclosing(subscription.messages()) as messages:
            async for item in messages:
                if isinstance(item, Missed):
                    assert item.count is not None
                    self.missed += item.count
                else:
                    # It counts them itself: what it has, and what it was told that it does not have.
                    assert not self.got or item.revision > self.got[-1].revision, "twice, or out of order"
                    self.got.append(item)
                    assert item.number == len(self.got) + self.missed, "some are missing, and it was not told"
                await self._handled(subscription, item)
                self.handled = len(self.got) + self.missed
                self.heard.set()

    async def _handled(self, subscription: Subscription, item: Message | Missed) -> None:
        while True:
            with suppress(EtcdUnavailable, AmbiguousWrite):
                return await subscription.handled(item)
            await asyncio.sleep(0.05)

    async def restart(self) -> None:
        """Not while it cannot reach etcd: it is to stop between two messages, as one that does not crash does."""
        await self.stop()
        self.task = asyncio.create_task(self.run(), name=f"reader {self.name}")

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            assert self.task.cancelled(), f"it stopped: {self.task}"

    async def until(self, total: int) -> None:
        assert self.task is not None
        async with asyncio.timeout(20):
            while self.handled < total:
                assert not self.task.done(), f"it stopped: {self.task}"
                self.heard.clear()
                if self.handled < total:
                    waits = [asyncio.ensure_future(self.heard.wait()), self.task]
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    waits[0].cancel()
        assert self.handled == total


@dataclass
class World:
    operator: Etcd
    publisher: Topic
    line: Cuttable
    """The publisher's."""
    readers: list[Reader]
    trimmer: Topic
    published: dict[int, bytes] = field(default_factory=dict)
    count: int = 0
    compacted: int = 0

    async def publish(self) -> None:
        """Once, whatever becomes of the answer; again by its id where it is not known."""
        self.count += 1
        value = b"%d" % self.count
        message_id: str | None = None
        while True:
            try:
                revision = await self.publisher.publish(value, message_id=message_id)
            except Unsettled as unsettled:
                message_id = unsettled.message_id
            except EtcdUnavailable:
                message_id = None  # nothing was published, so another id is as good
            else:
                self.published[revision] = value
                return

    async def rest(self) -> None:
        for proxy in (self.line, *(reader.proxy for reader in self.readers)):
            proxy.heal()
        for reader in self.readers:
            await reader.until(len(self.published))


class Step(Protocol):
    async def take(self, world: World) -> None: ...


@dataclass(frozen=True)
class Publish:
    count: int

    async def take(self, world: World) -> None:
        for _ in range(self.count):
            await world.publish()


@dataclass(frozen=True)
class Interrupted:
    """The connection is reset while a message is on its way, or its answer is."""

    answer: bool

    async def take(self, world: World) -> None:
        world.line.cut(requests=not self.answer, answers=self.answer)
        publishing = asyncio.create_task(world.publish())
        held = world.line.holding_answer() if self.answer else world.line.holding_request()
        holding = asyncio.ensure_future(held)
        await asyncio.wait([publishing, holding], return_when=asyncio.FIRST_COMPLETED)
        holding.cancel()
        world.line.reset()
        world.line.heal()
        await publishing


@dataclass(frozen=True)
class Trim:
    async def take(self, world: World) -> None:
        await world.trimmer.trim()


@dataclass(frozen=True)
class Compact:
    async def take(self, world: World) -> None:
        revision = (await world.operator.range("/none/")).revision
        if revision == world.compacted:
            return  # etcd refuses to do it again
        world.compacted = revision
        request = rpc.CompactionRequest(revision=revision, physical=True)
        await world.operator.connection.call(lambda stubs: stubs.kv.Compact, request, repeatable=True)


@dataclass(frozen=True)
class Cut:
    """A reader hears nothing, until :class:`Rest`. A reset makes it connect again."""

    reader: int
    reset: bool

    async def take(self, world: World) -> None:
        proxy = world.readers[self.reader].proxy
        proxy.cut()
        if self.reset:
            proxy.reset()


@dataclass(frozen=True)
class Away:
    """A reader is stopped in order, while so many messages are published and trimmed, and comes back."""

    reader: int
    count: int

    async def take(self, world: World) -> None:
        await world.rest()
        reader = world.readers[self.reader]
        await reader.stop()
        reader.task = None
        await Publish(self.count).take(world)
        await Trim().take(world)
        await reader.restart()


@dataclass(frozen=True)
class Rest:
    async def take(self, world: World) -> None:
        await world.rest()


_READERS = st.integers(0, 1)
_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Publish, st.sampled_from([1, 3, 12])),
    st.builds(Interrupted, st.booleans()),
    st.just(Trim()),
    st.just(Compact()),
    st.builds(Cut, _READERS, st.booleans()),
    st.builds(Away, _READERS, st.sampled_from([0, 2, 12])),
    st.just(Rest()),
)


def _client(endpoints: list[str]) -> Etcd:
    return Etcd(endpoints, call_timeout_s=_CALL_TIMEOUT_S)


async def _live_through(server: EmbeddedEtcd, steps: list[Step]) -> None:
    name = f"t{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        operator = await stack.enter_async_context(Etcd([server.endpoint]))
        readers = []
        for number in range(2):
            proxy, client = await stack.enter_async_context(proxied(server.endpoint, _client))
            reader = Reader(Topic(client, name), f"reader-{number}", proxy)
            await reader.topic.subscription(reader.name)
            await reader.restart()
            stack.push_async_callback(reader.stop)
            readers.append(reader)
        line, client = await stack.enter_async_context(proxied(server.endpoint, _client))
        trimmer = Topic(operator, name, keep_count=_KEEP)
        world = World(operator, Topic(client, name), line, readers, trimmer)
        for step in (*steps, Rest(), Publish(1), Rest()):
            await step.take(world)
        for reader in readers:
            for message in reader.got:
                assert world.published.get(message.revision) == message.value, "nobody published that"


@profile(examples=8)
@given(steps=st.lists(_STEPS, min_size=3, max_size=12))
@example(steps=[Publish(3), Rest(), Cut(0, True), Publish(12), Trim(), Compact(), Publish(1)])
@example(steps=[Away(0, 12), Publish(3), Away(0, 2), Away(1, 12)])
@example(steps=[Interrupted(True), Interrupted(False), Trim(), Interrupted(True), Publish(1)])
def test_no_message_is_lost_in_silence_none_comes_twice_and_their_order_is_kept(
    server: EmbeddedEtcd, steps: list[Step]
) -> None:
    run_with_streams(_live_through(server, steps), timeout_s=60)
