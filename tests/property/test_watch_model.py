"""Random writes, compactions and faults, while somebody follows: nothing is lost, and nothing comes twice."""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Protocol

from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.etcd.rpc import rpc
from tests.property.history import Change, History
from tests.property.profile import profile
from tests.property.proxied import proxied
from tests.property.watched import LOOK_AGAIN_S, Consumer, World
from tests.support.streams import run_with_streams

_WRITES_AT_ONCE = 100


class Step(Protocol):
    async def take(self, world: World) -> None: ...


@dataclass(frozen=True)
class Write:
    key: str
    leased: bool = False

    async def take(self, world: World) -> None:
        if self.leased and not world.lease:
            world.lease, _ = await world.writer.grant(60)
        await world.write((world.prefix + self.key, world.value(), world.lease if self.leased else 0))


@dataclass(frozen=True)
class Remove:
    key: str

    async def take(self, world: World) -> None:
        await world.write((world.prefix + self.key, None, 0))


@dataclass(frozen=True)
class Together:
    """Several keys in one revision: True writes, False deletes."""

    keys: tuple[tuple[str, bool], ...]

    async def take(self, world: World) -> None:
        await world.write(
            *((world.prefix + key, world.value() if put else None, 0) for key, put in self.keys)
        )


@dataclass(frozen=True)
class Revoke:
    """End the lease, and all keys on it in one revision."""

    async def take(self, world: World) -> None:
        on_lease = sorted(kv.key for kv in world.history.now.values() if kv.lease and kv.lease == world.lease)
        if world.lease:
            await world.writer.revoke(world.lease)
            world.lease = 0
        revision = (await world.writer.range(world.prefix)).revision
        world.history.record(revision, [(key, None, 0) for key in on_lease])


@dataclass(frozen=True)
class Burst:
    """So many writes that etcd tells of them in several batches."""

    writes: int

    async def take(self, world: World) -> None:
        for first in range(0, self.writes, _WRITES_AT_ONCE):
            changes: list[Change] = [
                (f"{world.prefix}burst/{number % 5}", world.value(), 0)
                for number in range(first, min(first + _WRITES_AT_ONCE, self.writes))
            ]
            revisions = await asyncio.gather(
                *(world.writer.put(key, value or b"") for key, value, _ in changes)
            )
            for revision, change in sorted(zip(revisions, changes, strict=True)):
                world.history.record(revision, [change])


@dataclass(frozen=True)
class Compact:
    """Forget what happened before the last ``kept`` revisions.

    Where that is the revision of a deletion etcd forgets the deletion as well, and lets a watch begin there
    which is not told of it (etcd issue 18089, mended in 3.5.16).
    """

    kept: int

    async def take(self, world: World) -> None:
        revision = (await world.writer.range(world.prefix)).revision - self.kept
        if revision <= world.history.compactions[-1]:
            return
        request = rpc.CompactionRequest(revision=revision, physical=True)
        await world.writer.connection.call(lambda stubs: stubs.kv.Compact, request, repeatable=True)
        world.history.compactions.append(revision)


@dataclass(frozen=True)
class Reset:
    """Reset the connections: now, or ``on_arrival`` of the next batch, in the middle of what comes."""

    on_arrival: bool

    async def take(self, world: World) -> None:
        world.consumer.reset_on_arrival = self.on_arrival
        if not self.on_arrival:
            world.proxy.reset()


@dataclass(frozen=True)
class Cut:
    """Silence, until :class:`Heal` or :class:`Rest`. A reset loses what was held back."""

    requests: bool
    answers: bool

    async def take(self, world: World) -> None:
        world.proxy.cut(requests=self.requests, answers=self.answers)


@dataclass(frozen=True)
class Heal:
    async def take(self, world: World) -> None:
        world.proxy.heal()


@dataclass(frozen=True)
class Silence:
    """Nothing is written, for some multiple of the time after which the consumer looks again."""

    times: float

    async def take(self, world: World) -> None:
        await asyncio.sleep(self.times * LOOK_AGAIN_S)


@dataclass(frozen=True)
class Accept:
    """The opposite of :class:`Refuse`. Whoever is to connect again does so in its own time."""

    async def take(self, world: World) -> None:
        await world.free_the_way()


@dataclass(frozen=True)
class Refuse:
    """Nobody listens, until :class:`Accept` or :class:`Rest`."""

    async def take(self, world: World) -> None:
        world.refusing = True
        await world.proxy.refuse()


@dataclass(frozen=True)
class Pause:
    """The server stands still while a write is on its way to it."""

    key: str
    stopped_s: float

    async def take(self, world: World) -> None:
        world.server.pause()
        try:
            writing = asyncio.ensure_future(Write(self.key).take(world))
            await asyncio.wait([writing], timeout=self.stopped_s)
        finally:
            world.server.resume()
        await writing


@dataclass(frozen=True)
class Rest:
    async def take(self, world: World) -> None:
        await world.rest()


_KEYS = st.sampled_from("abc")
_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Write, _KEYS),
    st.builds(Write, _KEYS, st.booleans()),
    st.builds(Remove, _KEYS),
    st.builds(
        Together,
        st.lists(st.tuples(_KEYS, st.booleans()), min_size=2, max_size=3, unique_by=lambda op: op[0]).map(
            tuple
        ),
    ),
    st.builds(Revoke),
    st.builds(Compact, st.integers(0, 3)),
    st.builds(Reset, st.booleans()),
    st.sampled_from([Cut(True, True), Cut(True, False), Cut(False, True), Heal(), Refuse(), Accept()]),
    st.builds(Silence, st.sampled_from([0.5, 1.0, 1.1, 2.5])),
    st.sampled_from([Burst(5), Burst(20), Burst(60), Burst(1200)]),
    st.builds(Pause, _KEYS, st.sampled_from([0.0, 0.05])),
    st.builds(Rest),
)


async def _live_through(server: EmbeddedEtcd, steps: list[Step]) -> None:
    prefix = f"/{secrets.token_hex(4)}/"
    async with (
        proxied(server.endpoint, Etcd) as (proxy, client),
        Etcd([server.endpoint]) as writer,
    ):
        consumer = Consumer(client, prefix, proxy)
        begin = (await writer.range(prefix)).revision
        world = World(server, proxy, writer, consumer, prefix, History(compacted=begin))
        following = asyncio.create_task(consumer.run())
        try:
            for step in (*steps, Rest(), Write("z"), Revoke(), Rest()):
                await step.take(world)
        finally:
            following.cancel()
            await asyncio.wait([following])
        assert following.cancelled(), f"it stopped following: {following}"


@profile(examples=15)
@given(steps=st.lists(_STEPS, min_size=4, max_size=16))
@example(steps=[Rest(), Refuse(), Burst(1500), Reset(on_arrival=True)])
@example(steps=[Write("a"), Rest(), Write("b"), Rest(), Reset(on_arrival=False), Write("a")])
@example(steps=[Rest(), Cut(False, True), Write("a"), Write("a"), Reset(on_arrival=False), Remove("a")])
@example(
    steps=[
        *(Write("a", leased=True), Write("b"), Write("c", leased=True), Rest(), Refuse()),
        *(Revoke(), Write("c"), Together((("a", True), ("b", False))), Compact(0)),
    ]
)
@example(
    steps=[Write("a"), Rest(), Refuse(), Remove("a"), Compact(0), Write("a")],
)
@example(
    steps=[
        *(Write("a"), Rest(), Refuse(), Write("a"), Write("b"), Write("a"), Remove("b"), Silence(2.5)),
        *(Accept(), Silence(1.1), Write("a")),
    ]
)
@example(steps=[Write("a"), Rest(), Cut(True, True), Write("a"), Compact(0), Pause("b", 0.05), Heal()])
def test_who_follows_is_told_each_write_once_and_in_order_and_the_difference_where_history_is_gone(
    server: EmbeddedEtcd, steps: list[Step]
) -> None:
    run_with_streams(_live_through(server, steps), timeout_s=60)
