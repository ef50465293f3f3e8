"""Queues on a real etcd: the order, one consumer per item, what is given back, and dead letters."""

import asyncio

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, NotFound, SettingsError
from leaderjob.etcd import Etcd, Put, ValueTooLarge
from leaderjob.recipes import ClaimLost, Queue, QueueEmpty, SessionLost
from leaderjob.recipes.queue_item import encode_new
from tests.support.etcd import every_release
from tests.support.queues import Counter
from tests.support.streams import run_with_streams


@every_release("etcd")
async def test_items_come_in_the_order_in_which_they_were_put(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Counter(etcd.endpoint, namespace).consumer() as queue:
        for number in range(20):
            await queue.put(b"%d" % number)
        assert await queue.length() == 20
        assert [int((await queue.get()).value) for _ in range(10)] == list(range(10))
        assert [int((await queue.claim()).value) for _ in range(10)] == list(range(10, 20))
        assert await queue.length() == 10


async def test_the_newest_comes_first_where_that_is_asked_for(counter: Counter) -> None:
    async with counter.consumer(newest_first=True) as queue:
        for value in (b"a", b"b"):
            await queue.put(value)
        assert (await queue.get()).value == b"b"
        await queue.put(b"c")
        claimed = await queue.claim()
        assert claimed.value == b"c"
        await queue.put(b"d")
        await claimed.nack()
        assert [(await queue.get()).value for _ in range(3)] == [b"d", b"c", b"a"]


async def test_more_items_than_a_consumer_knows_at_a_time_keep_their_order(counter: Counter) -> None:
    async with counter.consumer() as queue, counter.consumer(newest_first=True) as backwards:
        await asyncio.gather(*(queue.put(b"%d" % number) for number in range(300)))
        stored = [kv.key.rpartition("/")[2] for kv in await counter.keys("items/")]
        assert [(await backwards.get()).id for _ in range(40)] == stored[-1:-41:-1]
        assert [(await queue.get()).id for _ in range(260)] == stored[:-40]
        with pytest.raises(QueueEmpty):
            await queue.get(wait_s=0)


@pytest.mark.parametrize(("newest_first", "transactions"), [(False, 3), (True, 1)])
async def test_items_that_one_transaction_put_are_all_found_wherever_a_page_ends(
    counter: Counter, newest_first: bool, transactions: int
) -> None:
    async with counter.consumer(newest_first=newest_first) as queue, Etcd([counter.endpoint]) as client:
        ids = [f"{number:04d}" for number in range(100 * transactions)]
        for some in (ids[at : at + 100] for at in range(0, len(ids), 100)):
            await client.txn((), [Put(f"{counter.root}items/{each}", encode_new(b"")) for each in some])
        claimed = [(await queue.claim(wait_s=0)).id for _ in ids]
        assert sorted(claimed) == ids
        with pytest.raises(QueueEmpty):
            await queue.claim(wait_s=0)


@pytest.mark.parametrize("value", [b"", b"text \xe2\x82\xac", b"\xff\x00", b"x" * 1_000_000])
async def test_a_value_comes_out_as_it_went_in(counter: Counter, value: bytes) -> None:
    async with counter.consumer(max_tries=1) as queue:
        item_id = await queue.put(value)
        async with queue.claim() as claimed:
            assert (claimed.value, claimed.id, claimed.tries) == (value, item_id, 1)
        assert await queue.length() == 0


async def test_a_value_that_etcd_would_not_take_is_refused_before_it_is_sent(counter: Counter) -> None:
    async with counter.consumer() as queue:
        with pytest.raises(ValueTooLarge, match="1500"):
            await queue.put(b"x" * 1_500_000)
        assert await counter.keys("") == []


@pytest.mark.timeout_s(5)
async def test_who_waits_gets_what_is_put_later(counter: Counter) -> None:
    async with counter.consumer() as queue, counter.consumer() as producer:
        getting = asyncio.create_task(queue.get())
        item_id = await producer.put(b"late")
        assert (await getting).id == item_id


@pytest.mark.parametrize("wait_s", [0.0, 0.05])
@pytest.mark.timeout_s(5)
async def test_an_empty_queue_says_so_in_time(counter: Counter, wait_s: float) -> None:
    async with counter.consumer() as queue:
        with pytest.raises(QueueEmpty):
            await queue.get(wait_s=wait_s)
        with pytest.raises(QueueEmpty):
            async with queue.claim(wait_s=wait_s):
                raise AssertionError
        assert await queue.peek() is None


def test_foreign_values_are_passed_over_and_told_and_stay(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = {
        "items/1": b"\xff",
        "items/2": b"[1]",
        "items/3": b'{"v": 2, "tries": 0, "text": ""}',
        "items/4": b'{"v": 1, "tries": -1, "text": ""}',
        "items/5": b'{"v": 1, "tries": 0}',
        "items/6": b'{"v": 1, "tries": 0, "base64": "?"}',
        "items/7": b'{"v": 1, "tries": 0, "text": "\\ud800"}',
        "items/8": b"[" * 100_000,
        "items/9/9": b'{"v": 1, "tries": 0, "text": ""}',
        "dead/1": b"",
    }

    async def main() -> None:
        async with counter.consumer() as queue, Etcd([counter.endpoint]) as operator:
            for key, value in foreign.items():
                await operator.put(counter.root + key, value)
            await queue.put(b"ours")
            assert (await queue.get(wait_s=0)).value == b"ours"
            with pytest.raises(QueueEmpty):
                await queue.get(wait_s=0)
            assert await queue.dead() == ()
            assert (await queue.foreign()).keys() == {counter.root + key for key in foreign}
            with pytest.raises(NotFound):
                await queue.requeue("1")
            assert await queue.length() == 9

    run_with_streams(main())
    told = [record.fields["key"] for record in caplog.records if record.message == "queue_value_foreign"]
    assert sorted(told) == [counter.root + key for key in sorted(foreign) if key.startswith("items")]


@pytest.mark.timeout_s(15)
async def test_a_claim_without_a_lease_does_not_block_an_item(counter: Counter) -> None:
    async with counter.consumer() as queue, Etcd([counter.endpoint]) as operator:
        item_id = await queue.put(b"a")
        await operator.put(f"{counter.root}claims/{item_id}", b"mine")
        assert (await queue.get()).id == item_id


async def test_bad_input_is_refused(counter: Counter) -> None:
    async with counter.session() as session:
        for name in ("", "A", "a/b"):
            with pytest.raises(InvalidName):
                Queue(session, name)
        with pytest.raises(SettingsError):
            Queue(session, "a", max_tries=0)
        with pytest.raises(SettingsError):
            await Queue(session, "a").get(wait_s=-1)
        for item_id in ("", "a/b", "none"):
            with pytest.raises(NotFound):
                await Queue(session, "a").requeue(item_id)


async def test_after_its_session_a_queue_does_nothing_and_leaves_nothing(counter: Counter) -> None:
    async with counter.session() as session:
        queue = counter.queue(session)
        await queue.put(b"a")
        claimed = await queue.claim()
    for use in (queue.put(b"b"), queue.get(), claimed.ack()):
        with pytest.raises((SessionLost, ClaimLost)):
            await use
    assert [kv.key.removeprefix(counter.root) for kv in await counter.keys("")] == [f"items/{claimed.id}"]


async def test_many_consumers_share_the_work_and_none_has_what_another_one_has(counter: Counter) -> None:
    async with counter.consumer() as producer:
        ids = [await producer.put(b"") for _ in range(40)]
        had: list[str] = []
        working: set[str] = set()

        async def work() -> None:
            async with counter.consumer() as queue:
                while len(had) < len(ids):
                    try:
                        async with queue.claim(wait_s=0) as item:
                            assert item.id not in working
                            working.add(item.id)
                            await asyncio.sleep(0)
                            had.append(item.id)
                            working.remove(item.id)
                    except QueueEmpty:
                        return

        await asyncio.gather(*(work() for _ in range(8)))
        assert sorted(had) == sorted(ids)
        assert await producer.length() == 0
