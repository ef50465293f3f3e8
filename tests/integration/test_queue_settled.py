"""Writes to a queue that etcd does not answer: done once or not at all, and never later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from leaderjob.etcd import AmbiguousWrite, Delete, Etcd, EtcdUnavailable, NoSpace, Put, absent
from leaderjob.recipes import ClaimLost, Queue, QueueEmpty, Session, SessionLost
from leaderjob.recipes import receipt as receipts
from leaderjob.recipes.receipt import Receipts
from tests.support.candidates import TIMING
from tests.support.queues import Counter
from tests.support.unanswered import Fate, Unanswered

every_fate = pytest.mark.parametrize("fate", ["done", "never", "later"])


@asynccontextmanager
async def unanswered(counter: Counter) -> AsyncIterator[tuple[Queue, Session, Unanswered]]:
    async with Unanswered([counter.endpoint]) as client, await Session.open(client, TIMING) as session:
        yield counter.queue(session), session, client


@every_fate
async def test_an_item_is_there_once_though_it_was_consumed_before_its_put_was_answered(
    counter: Counter, fate: Fate
) -> None:
    async with counter.consumer() as consumer, unanswered(counter) as (queue, _, client):
        had: list[str] = []

        async def consume() -> None:
            with pytest.raises(QueueEmpty):
                while True:
                    had.append((await consumer.get(wait_s=0)).id)

        client.fates, client.meanwhile = [fate], consume
        item_id = await queue.put(b"once")
        await consume()
        assert True not in await client.deliver_late()
        await queue.put(b"another")
        assert had == [item_id]
        assert await consumer.length() == 1


@every_fate
async def test_an_item_that_was_got_without_an_answer_is_got(counter: Counter, fate: Fate) -> None:
    async with unanswered(counter) as (queue, _, client):
        first, second = await queue.put(b"a"), await queue.put(b"b")
        client.fates = [fate, fate]
        assert (await queue.get()).id == first
        assert True not in await client.deliver_late()
        assert (await queue.get()).id == second


@every_fate
async def test_a_claim_without_an_answer_is_held_and_never_returns(counter: Counter, fate: Fate) -> None:
    async with unanswered(counter) as (queue, session, client):
        await queue.put(b"a")
        client.fates = [fate]
        claimed = await queue.claim()
        (key,) = await counter.keys("claims/")
        assert (key.create_revision, key.lease) == (claimed.token, session.lease_id)
        await claimed.nack()
        assert True not in await client.deliver_late()
        assert await counter.keys("claims/") == []
        assert (await queue.claim()).tries == 2


@every_fate
async def test_an_ack_without_an_answer_is_done(counter: Counter, fate: Fate) -> None:
    async with unanswered(counter) as (queue, _, client):
        await queue.put(b"a")
        async with queue.claim():
            client.fates = [fate]
        assert True not in await client.deliver_late()
        assert await counter.keys("") == []


@pytest.mark.parametrize("theirs", ["claim", "get", "by hand"])
@pytest.mark.parametrize("mine", ["claim", "get"])
async def test_an_item_that_another_one_has_taken_since_it_was_looked_at_is_left_to_that_one(
    counter: Counter, theirs: str, mine: str
) -> None:
    async with counter.consumer() as other, unanswered(counter) as (queue, session, client):
        first, second = await queue.put(b"a"), await queue.put(b"b")

        async def take() -> None:
            if theirs == "by hand":
                await client.put(f"{counter.root}claims/{first}", b"", lease=session.lease_id)
            elif theirs == "claim":
                assert (await other.claim(wait_s=0)).id == first
            else:
                assert (await other.get(wait_s=0)).id == first

        client.fates, client.meanwhile = ["never"], take
        had = await (queue.claim(wait_s=0) if mine == "claim" else queue.get(wait_s=0))
        assert had.id == second


async def test_an_ack_that_came_too_late_is_told_from_one_whose_answer_was_lost(counter: Counter) -> None:
    async with counter.consumer() as other, unanswered(counter) as (queue, _, client):
        await queue.put(b"a")
        claimed = await queue.claim()

        async def lose() -> None:
            await client.delete(claimed.key)
            await (await other.claim(wait_s=0)).ack()

        client.fates, client.meanwhile = ["never"], lose
        with pytest.raises(ClaimLost):
            await claimed.ack()


async def test_what_was_refused_after_a_lost_try_is_not_done_when_that_try_arrives(counter: Counter) -> None:
    async with unanswered(counter) as (_, session, client):
        key, blocking = f"{counter.root}key", f"{counter.root}blocking"
        await client.put(blocking, b"")
        writing = Receipts(session, f"{counter.root}receipts/")
        client.fates = ["later"]
        committed = await writing.commit([absent(blocking)], [Put(key, b"")])
        assert not committed.done
        await client.delete(blocking)
        assert await client.deliver_late() == [False]
        assert await client.get(key) is None
        assert (await writing.commit([absent(blocking)], [Put(key, b""), Delete(blocking)])).done


async def test_a_receipt_that_somebody_deleted_makes_a_write_uncertain_and_the_next_one_succeed(
    counter: Counter,
) -> None:
    async with unanswered(counter) as (queue, _, client):
        await queue.put(b"a")

        async def delete() -> None:
            await client.delete(f"{counter.root}receipts/", prefix=True)

        client.fates, client.meanwhile = ["done"], delete
        with pytest.raises(AmbiguousWrite):
            await queue.put(b"b")
        await queue.put(b"c")
        await delete()
        await queue.put(b"d")
        assert [(await queue.get()).value for _ in range(4)] == [b"a", b"b", b"c", b"d"]


async def test_a_write_that_is_never_answered_ends_as_uncertain_and_a_claim_ends_the_session(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "_SETTLE_S", 0.0)

    async with unanswered(counter) as (queue, session, client):
        await queue.put(b"a")
        client.fates = ["never"]
        with pytest.raises(AmbiguousWrite):
            await queue.put(b"b")
        session.check()
        client.fates = ["done"]
        with pytest.raises(AmbiguousWrite):
            await queue.claim()
        with pytest.raises(SessionLost):
            session.check()
    assert await counter.keys("claims/") == []


async def test_what_took_the_last_room_is_done_though_etcd_says_that_it_found_none(counter: Counter) -> None:
    async with unanswered(counter) as (queue, _, client):
        client.fates = ["took the last room"] * 3
        await queue.put(b"a")
        async with queue.claim(wait_s=0) as item:
            assert item.tries == 1
        assert await counter.keys("") == []


async def test_a_full_etcd_takes_nothing_and_an_ack_that_it_refuses_ends_the_session(
    counter: Counter,
) -> None:
    async with counter.consumer() as other, unanswered(counter) as (queue, session, client):
        await queue.put(b"a")
        client.fates = ["found no room"] * 2
        with pytest.raises(NoSpace):
            await queue.put(b"b")
        with pytest.raises(NoSpace):
            await queue.claim()
        claimed = await queue.claim()
        client.fates = ["found no room"]
        with pytest.raises(NoSpace):
            await claimed.ack()
        assert session.is_lost
        await session.close()
        assert (await other.claim()).tries == 2


async def test_a_refusal_after_a_try_without_an_answer_is_not_told_as_not_done(counter: Counter) -> None:
    async with unanswered(counter) as (queue, _, client):
        client.fates = ["later", "refused"]
        with pytest.raises(AmbiguousWrite):
            await queue.put(b"a")
        assert await client.deliver_late() == [True]


async def test_a_lease_that_cannot_be_asked_for_after_a_try_without_an_answer_is_not_told_as_not_done(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "_SETTLE_S", 0.1)

    async with unanswered(counter) as (queue, session, client):

        async def away(_: int, **__: float) -> int:
            raise EtcdUnavailable([counter.endpoint], "away")

        async def revoke() -> None:
            monkeypatch.setattr(client, "keep_alive", away)
            await client.revoke(session.lease_id)

        client.fates, client.meanwhile = ["done"], revoke
        with pytest.raises(AmbiguousWrite):
            await queue.put(b"a")
        assert await queue.length() == 1


async def test_who_is_cancelled_while_claiming_gives_the_item_back_as_if_it_had_not_been_claimed(
    counter: Counter,
) -> None:
    async with counter.consumer() as other, unanswered(counter) as (queue, session, client):
        await queue.put(b"a")
        under_way = asyncio.Event()

        async def tell() -> None:
            under_way.set()

        client.fates, client.meanwhile = ["done"], tell
        claiming = asyncio.ensure_future(_claim(queue))
        await under_way.wait()
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        session.check()
        claimed = await other.claim(wait_s=0)
        assert claimed.tries == 1


async def test_who_is_cancelled_while_waiting_leaves_nothing(counter: Counter) -> None:
    async with counter.consumer() as producer, counter.consumer() as queue:
        for waiting in (_claim(queue), queue.get()):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await waiting
        await producer.put(b"a")
        assert await counter.keys("claims/") == []
        assert (await queue.get(wait_s=0)).value == b"a"


async def test_an_item_that_an_operator_deletes_while_it_is_claimed_stays_deleted(counter: Counter) -> None:
    async with counter.consumer(max_tries=1) as queue, Etcd([counter.endpoint]) as operator:
        await queue.put(b"a")
        claimed = await queue.claim()
        await operator.delete(f"{counter.root}items/{claimed.id}")
        await claimed.nack()
        assert await counter.keys("") == []


async def _claim(queue: Queue) -> None:
    await queue.claim()
