"""Random use of a queue, crashes and lost answers: no item is lost, or with two consumers, or out of its order."""

import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.recipes import ClaimLost
from tests.property.profile import profile
from tests.property.queue_model import MAX_TRIES, Consumer, Modelled, Office
from tests.support.etcd import etcdctl
from tests.support.queues import Counter
from tests.support.streams import run_with_streams
from tests.support.unanswered import Fate


class Step(Protocol):
    async def take(self, office: Office) -> None: ...


@dataclass(frozen=True)
class _One:
    """A step of one consumer, by its number."""

    number: int

    def of(self, office: Office) -> Consumer:
        return office.consumers[self.number % len(office.consumers)]


class PutOne(_One):
    async def take(self, office: Office) -> None:
        await office.put(self.of(office))


class GetOne(_One):
    async def take(self, office: Office) -> None:
        await office.get(self.of(office))


class ClaimOne(_One):
    async def take(self, office: Office) -> None:
        await office.claim(self.of(office))


@dataclass(frozen=True)
class Settle(_One):
    """Ack or nack what was claimed first."""

    acks: bool

    async def take(self, office: Office) -> None:
        consumer, model = self.of(office), office.model
        if not consumer.claimed:
            return
        claimed = consumer.claimed.pop(0)
        settle = claimed.ack if self.acks else claimed.nack
        item = model.claimed_by(claimed.token)
        if item is None:
            with pytest.raises(ClaimLost):
                await settle()
            return
        await settle()
        item.token = None
        if self.acks:
            model.items.remove(item)
            model.consumed.append(item.id)
        elif item.tries >= MAX_TRIES:
            model.bury(item)


@dataclass(frozen=True)
class Crash(_One):
    """Its lease is gone, before it knows or when it closes; then it comes back with another one."""

    closes: bool

    async def take(self, office: Office) -> None:
        consumer = self.of(office)
        if not self.closes:
            await office.operator.revoke(consumer.session.lease_id)
        office.model.free({claimed.token for claimed in consumer.claimed})
        await consumer.restart()


class CrashUnawares(_One):
    """Its lease is gone, and it goes on with what it has."""

    async def take(self, office: Office) -> None:
        consumer = self.of(office)
        await office.operator.revoke(consumer.session.lease_id)
        office.model.free({claimed.token for claimed in consumer.claimed})
        for claimed in consumer.claimed:
            with pytest.raises(ClaimLost):
                await claimed.ack()
        await consumer.restart()


@dataclass(frozen=True)
class LoseAnswers(_One):
    """The next writes of the consumer get no answer."""

    fates: tuple[Fate, ...]

    async def take(self, office: Office) -> None:
        self.of(office).client.fates = list(self.fates)


class DeliverLate(_One):
    """What was held back arrives: it is too late for all of it."""

    async def take(self, office: Office) -> None:
        assert True not in await self.of(office).client.deliver_late()


class DeleteClaim(_One):
    """An operator deletes the consumer's newest claim."""

    async def take(self, office: Office) -> None:
        claimed = self.of(office).claimed
        if claimed:
            await office.operator.delete(claimed[-1].key)
            office.model.free({claimed[-1].token})


class Requeue(_One):
    """The dead letter that was buried first is put back."""

    async def take(self, office: Office) -> None:
        model = office.model
        if model.dead:
            item_id, _ = model.dead.pop(0)
            await self.of(office).queue.requeue(item_id)
            model.items.append(Modelled(item_id))


class Compact(_One):
    async def take(self, office: Office) -> None:
        revision = await office.operator.put("/compacted", b"")
        etcdctl(office.counter.endpoint, "compact", str(revision))


_NUMBERS = st.integers(0, 2)
_FATES = st.lists(st.sampled_from(["done", "never", "later"]), min_size=1, max_size=3).map(tuple)
_USES: list[st.SearchStrategy[Step]] = [
    *[st.builds(PutOne, _NUMBERS)] * 4,
    *[st.builds(ClaimOne, _NUMBERS)] * 4,
    *[st.builds(Settle, _NUMBERS, st.booleans())] * 3,
    *[st.builds(LoseAnswers, _NUMBERS, _FATES)] * 2,
    st.builds(GetOne, _NUMBERS),
    st.builds(Crash, _NUMBERS, st.booleans()),
    st.builds(CrashUnawares, _NUMBERS),
    st.builds(DeliverLate, _NUMBERS),
    st.builds(DeleteClaim, _NUMBERS),
    st.builds(Requeue, _NUMBERS),
    st.builds(Compact, _NUMBERS),
]


async def _live_through(server: EmbeddedEtcd, steps: list[Step]) -> None:
    office = Office(Counter(server.endpoint, f"q{secrets.token_hex(4)}"), 3)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(office.operator)
        for consumer in office.consumers:
            await consumer.start()
            stack.push_async_callback(consumer.stop)
        for step in steps:
            await step.take(office)
            await office.check()
        for consumer in office.consumers:
            consumer.client.fates.clear()
            await DeliverLate(office.consumers.index(consumer)).take(office)
            await Crash(office.consumers.index(consumer), closes=True).take(office)
        while office.model.items:
            await office.get(office.consumers[0])
        await office.check()


@profile(examples=10)
@given(steps=st.lists(st.one_of(*_USES), min_size=5, max_size=30))
@example(steps=[PutOne(0), PutOne(0), ClaimOne(0), ClaimOne(2), Crash(0, closes=False), ClaimOne(2)])
@example(steps=[PutOne(0), PutOne(0), PutOne(0), ClaimOne(1), PutOne(2), ClaimOne(1), Settle(1, acks=False)])
@example(steps=[PutOne(0), *[ClaimOne(0), Crash(0, closes=False)] * 3, ClaimOne(2), Requeue(1), GetOne(2)])
@example(steps=[PutOne(0), *[ClaimOne(2), Settle(2, acks=False)] * 3, Requeue(1), ClaimOne(1)])
@example(steps=[PutOne(0), LoseAnswers(0, ("later",)), ClaimOne(0), Settle(0, acks=False), DeliverLate(0)])
def _hold_against_the_model(server: EmbeddedEtcd, steps: list[Step]) -> None:
    run_with_streams(_live_through(server, steps), timeout_s=120)


def test_no_item_is_lost_or_given_to_two_and_the_order_is_kept(server: EmbeddedEtcd) -> None:
    _hold_against_the_model(server)
