"""Claims of items: whose they are, how they end, and what becomes of those whose consumer is gone."""

import asyncio
import logging

import pytest

from leaderjob.errors import NotFound
from leaderjob.etcd import Etcd
from leaderjob.recipes import ClaimLost, NotClaimed, QueueEmpty
from leaderjob.recipes.queue_item import encode_new
from tests.support.queues import Counter


async def test_an_item_is_one_consumers_at_a_time_and_peek_passes_it_over(counter: Counter) -> None:
    async with counter.consumer() as first, counter.consumer() as second:
        await first.put(b"a")
        await first.put(b"b")
        peeked = await second.peek()
        assert peeked is not None and peeked.value == b"a"
        async with first.claim() as claimed:
            peeked = await second.peek()
            assert (claimed.value, peeked and peeked.value) == (b"a", b"b")
            assert (await second.get()).value == b"b"
            with pytest.raises(QueueEmpty):
                await second.get(wait_s=0)


async def test_a_block_that_ends_acks_and_one_that_raises_nacks(counter: Counter) -> None:
    async with counter.consumer() as queue:
        await queue.put(b"a")
        await queue.put(b"b")
        with pytest.raises(ZeroDivisionError):
            async with queue.claim():
                raise ZeroDivisionError
        async with queue.claim() as again:
            assert (again.value, again.tries) == (b"a", 2)
        assert await queue.length() == 1
        assert await counter.keys("claims/") == []


async def test_a_block_that_is_cancelled_gives_its_item_back(counter: Counter) -> None:
    async with counter.consumer() as queue:
        await queue.put(b"a")
        entered = asyncio.Event()

        async def work() -> None:
            async with queue.claim():
                entered.set()
                await asyncio.Event().wait()

        working = asyncio.create_task(work())
        await entered.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert (await queue.claim(wait_s=0)).tries == 2


async def test_a_crashed_consumers_item_returns_to_its_place(counter: Counter) -> None:
    async with counter.consumer() as survivor, Etcd([counter.endpoint]) as operator:
        for value in (b"a", b"b", b"c"):
            await survivor.put(value)
        async with counter.session() as session:
            crashing = counter.queue(session)
            assert (await crashing.claim()).value == b"a"
            assert (await survivor.get()).value == b"b"
            await operator.revoke(session.lease_id)
        async with survivor.claim() as returned:
            assert (returned.value, returned.tries) == (b"a", 2)
        assert (await survivor.get()).value == b"c"


@pytest.mark.timeout_s(5)
async def test_who_waits_gets_what_a_crashed_consumer_had(counter: Counter) -> None:
    async with counter.consumer() as survivor, Etcd([counter.endpoint]) as operator:
        await survivor.put(b"a")
        async with counter.session() as session:
            await counter.queue(session).claim()
            getting = asyncio.create_task(survivor.get())
            await operator.revoke(session.lease_id)
            assert (await getting).tries == 1


@pytest.mark.timeout_s(10)
async def test_a_lost_claim_cancels_the_block_and_its_ack_is_refused(counter: Counter) -> None:
    async with counter.consumer() as other, Etcd([counter.endpoint]) as operator:
        await other.put(b"a")
        async with counter.session() as session:
            queue = counter.queue(session)
            with pytest.raises(ClaimLost, match="another consumer may have it"):
                async with queue.claim() as lost:
                    await operator.delete(lost.key)
                    session.renew_now()
                    await asyncio.Event().wait()
            claimed = await queue.claim()
            await operator.delete(claimed.key)
            theirs = await other.claim(wait_s=0)
            with pytest.raises(ClaimLost):
                await claimed.ack()
            assert await other.length() == 1
            session.check()
            await theirs.ack()


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.timeout_s(10)
async def test_a_claim_that_was_lost_is_confirmed_no_more(counter: Counter, settled: bool) -> None:
    async with counter.session() as session, Etcd([counter.endpoint]) as operator:
        queue = counter.queue(session)
        await queue.put(b"a")
        claimed = await queue.claim()
        assert len(session.confirmations) == 1
        await operator.delete(claimed.key)
        session.renew_now()
        assert "key is gone" in await claimed.wait_ended()
        if settled:
            with pytest.raises(ClaimLost):
                await claimed.nack()
        assert session.confirmations == []


async def test_an_item_that_somebody_changed_is_not_buried_and_not_told_to_be(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    def buried() -> list[str]:
        return [record.fields["key"] for record in caplog.records if record.message == "item_buried"]

    caplog.set_level(logging.INFO)
    async with counter.consumer(max_tries=1) as queue, Etcd([counter.endpoint]) as operator:
        changed = await queue.put(b"a")
        claimed = await queue.claim()
        await operator.put(f"{counter.root}items/{changed}", encode_new(b"corrected"))
        await claimed.nack()
        assert await queue.dead() == ()
        assert buried() == []
        claimed = await queue.claim()
        assert claimed.value == b"corrected"
        await claimed.nack()
        assert [letter.id for letter in await queue.dead()] == [changed]
        assert buried() == [f"{counter.root}dead/{changed}"]


async def test_an_item_is_acked_or_nacked_once(counter: Counter) -> None:
    async with counter.consumer() as queue:
        await queue.put(b"a")
        claimed = await queue.claim()
        await claimed.ack()
        for again in (claimed.ack, claimed.nack):
            with pytest.raises(NotClaimed):
                await again()
        await queue.put(b"b")
        async with queue.claim() as claimed:
            await claimed.nack()
        assert await queue.length() == 1


@pytest.mark.parametrize("crashes", [False, True], ids=["nacked", "crashed"])
async def test_an_item_that_was_tried_so_often_is_a_dead_letter_and_can_be_put_back(
    counter: Counter, crashes: bool
) -> None:
    async with counter.consumer(max_tries=2) as queue, Etcd([counter.endpoint]) as operator:
        item_id = await queue.put(b"poison")
        await queue.put(b"next")
        for _ in range(2):
            async with counter.session() as session:
                claimed = await counter.queue(session, max_tries=2).claim()
                assert claimed.id == item_id
                if crashes:
                    await operator.revoke(session.lease_id)
                else:
                    await claimed.nack()
        assert (await queue.get()).value == b"next"
        (letter,) = await queue.dead()
        assert (letter.id, letter.value, letter.tries) == (item_id, b"poison", 2)
        await queue.put(b"before")
        await queue.requeue(item_id)
        assert await queue.dead() == ()
        assert [((item := await queue.get()).value, item.tries) for _ in range(2)] == [
            (b"before", 0),
            (b"poison", 0),
        ]
        with pytest.raises(NotFound, match="no dead letter"):
            await queue.requeue(item_id)
