"""A queue whose consumer does not look before each item: that it needs fewer round trips, and that the order stays."""

from leaderjob.recipes.queue_head import Head
from leaderjob.recipes.queue_item import QueueKeys, encode
from tests.support.queues import Counter


async def test_who_takes_alone_looks_once_for_several_items(counter: Counter) -> None:
    round_trips: list[float] = []

    async with counter.session(endpoint=None) as session, counter.consumer() as producer:
        for number in range(8):
            await producer.put(b"%d" % number)
        queue = counter.queue(session)
        session.etcd.connection.on_round_trip = round_trips.append
        assert [int((await queue.get()).value) for _ in range(8)] == list(range(8))
    assert len(round_trips) < 2 * 8, (
        "eight takes, and a look at the keys and one at the values; a keepalive may come"
    )


async def test_an_item_that_another_one_took_meanwhile_is_not_handed_out_twice(counter: Counter) -> None:
    async with counter.consumer() as one, counter.consumer() as other:
        for value in (b"a", b"b", b"c", b"d"):
            await one.put(value)
        assert (await one.get()).value == b"a"
        assert (await other.get()).value == b"b"
        assert (await one.get()).value == b"c"
        assert (await other.get()).value == b"d"


async def test_what_another_one_gives_back_is_not_passed_over(counter: Counter) -> None:
    async with counter.consumer() as one, counter.consumer() as other:
        for value in (b"a", b"b", b"c", b"d"):
            await one.put(value)
        claimed = await other.claim()
        assert (await one.get()).value == b"b"
        await claimed.nack()
        assert (await one.get()).value == b"a"
        claimed = await other.claim()
        await claimed.nack()
        assert [(await one.get()).value for _ in range(2)] == [b"c", b"d"]


async def test_what_a_consumer_gives_back_itself_is_not_passed_over(counter: Counter) -> None:
    async with counter.consumer() as queue:
        for value in (b"a", b"b", b"c"):
            await queue.put(value)
        claimed = await queue.claim()
        await claimed.nack()
        assert [(await queue.get()).value for _ in range(3)] == [b"a", b"b", b"c"]


async def test_what_stands_behind_others_is_not_next_when_one_in_the_middle_is_taken(
    counter: Counter,
) -> None:
    async with counter.session() as session:
        for value in (b"a", b"b", b"c"):
            await counter.queue(session).put(value)
        head = Head(session.etcd, QueueKeys(counter.root), newest_first=False)
        first, second, third = (await head.look()).waiting
        head.taken(first)
        assert head.remembered is not None
        assert head.remembered.waiting == (second, third)
        head.taken(third)
        assert head.remembered is None


async def test_a_value_that_is_corrected_has_its_place(counter: Counter) -> None:
    async with counter.consumer() as queue, counter.session() as session:
        await session.etcd.put(f"{counter.root}items/x", b"no record")
        for value in (b"b", b"c"):
            await queue.put(value)
        assert (await queue.get()).value == b"b"
        await session.etcd.put(f"{counter.root}items/x", encode(b"a", 0))
        assert [(await queue.get()).value for _ in range(2)] == [b"a", b"c"]


async def test_several_items_that_were_tried_too_often_are_buried_one_after_the_other(
    counter: Counter,
) -> None:
    async with counter.consumer(max_tries=1) as queue:
        async with counter.session() as session:
            patient = counter.queue(session)
            for value in (b"a", b"b"):
                await queue.put(value)
            for _ in range(2):
                await patient.claim()
        await queue.put(b"c")
        assert (await queue.get()).value == b"c"
        assert [letter.value for letter in await queue.dead()] == [b"a", b"b"]
