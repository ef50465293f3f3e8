"""Subscriptions to topics, against a real etcd: they continue where they stopped, and one at a time reads by each."""

import asyncio
from contextlib import aclosing

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import NotFound
from leaderjob.etcd import Etcd
from leaderjob.recipes import Message, Missed, Subscription, SubscriptionLost, Topic, UnreadableRecord
from leaderjob.recipes.record import encode
from tests.support.unanswered import Fate, Unanswered


async def read(subscription: Subscription, count: int) -> list[Message | Missed]:
    async with asyncio.timeout(10), aclosing(subscription.messages()) as messages:
        return [await anext(messages) for _ in range(count)]


def values(items: list[Message | Missed]) -> list[bytes | int | None]:
    return [item.value if isinstance(item, Message) else item.count for item in items]


async def publish(topic: Topic, *names: str) -> None:
    for name in names:
        await topic.publish(name.encode())


async def test_it_continues_after_what_was_handled_and_hands_the_rest_out_again(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "orders", namespace=namespace)
        await publish(topic, "old")
        await topic.subscription("billing")  # from now on, whenever it is read
        await publish(topic, "1", "2", "3")
        reader = await topic.subscription("billing")
        one, two, three = await read(reader, 3)
        await reader.handled(one)
        assert values(await read(reader, 2)) == [b"2", b"3"]
        assert values(await read(await topic.subscription("billing", last=99), 2)) == [b"2", b"3"]
        await reader.handled(three)
        await reader.handled(two)  # it is past that
        await publish(topic, "4")
        assert values(await read(await topic.subscription("billing"), 1)) == [b"4"]
        assert values(await read(await topic.subscription("audit", last=2), 2)) == [b"3", b"4"]
        assert values(await read(await topic.subscription("all", last=9), 5)) == [
            *(b"old", b"1", b"2", b"3", b"4")
        ]


async def test_what_was_trimmed_before_it_was_read_is_told_until_that_was_handled(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "orders", keep_count=1, namespace=namespace)
        await topic.subscription("billing")
        await publish(topic, "1", "2", "3", "4")
        await topic.trim()
        for _ in range(2):
            reader = await topic.subscription("billing")
            missed, four = await read(reader, 2)
            assert values([missed, four]) == [3, b"4"]
        await reader.handled(missed)
        assert values(await read(await topic.subscription("billing"), 1)) == [b"4"]
        await reader.handled(four)
        await publish(topic, "5", "6")
        await topic.trim()
        assert values(await read(await topic.subscription("billing"), 2)) == [1, b"6"]


async def test_a_second_reader_takes_it_over_and_the_first_is_told(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "orders", namespace=namespace)
        first, second = await topic.subscription("billing"), await topic.subscription("billing")
        await publish(topic, "1", "2")
        one, two = await read(first, 2)
        await second.handled(one)
        with pytest.raises(SubscriptionLost, match="another reader"):
            await first.handled(two)
        await second.handled(two)
        await topic.unsubscribe("billing")
        await publish(topic, "3")
        (three,) = await read(second, 1)
        with pytest.raises(SubscriptionLost, match="was removed"):
            await second.handled(three)
        with pytest.raises(NotFound):
            await topic.unsubscribe("billing")


async def test_a_cursor_that_is_moved_twice_at_once_does_not_move_back(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "orders", namespace=namespace)
        reader = await topic.subscription("billing")
        await publish(topic, "1", "2", "3")
        one, _, three = await read(reader, 3)
        await asyncio.gather(reader.handled(three), reader.handled(one))
        await publish(topic, "4")
        (next_one,) = await read(await topic.subscription("billing"), 1)
        assert isinstance(next_one, Message)
        assert next_one.value == b"4"


@pytest.mark.parametrize("fate", ["done", "later"])
async def test_a_cursor_is_moved_once_though_there_was_no_answer(
    etcd: EmbeddedEtcd, namespace: str, fate: Fate
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        topic = Topic(client, "orders", namespace=namespace)
        client.fates = [fate]
        reader = await topic.subscription("billing")
        await publish(topic, "1", "2", "3")
        one, two, three = await read(reader, 3)
        client.fates = [fate]
        await reader.handled(one)
        # Cancelled while its write was under way: the next one does not take that for another reader's.
        sent = asyncio.create_task(reader.handled(two))
        await asyncio.sleep(0)
        sent.cancel()
        await asyncio.wait([sent])
        await reader.handled(three)
        await topic.unsubscribe("billing")
        assert True not in await client.deliver_late()
        with pytest.raises(NotFound):
            await topic.unsubscribe("billing")


async def test_a_cursor_that_is_none_is_told_and_left_as_it_is(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "orders", namespace=namespace)
        key = f"/leaderjob/{namespace}/topics/orders/subscriptions/billing"
        for value in (b"7", b"\xff", encode(revision="x")):
            await client.put(key, value)
            with pytest.raises(UnreadableRecord, match=key):
                await topic.subscription("billing")
            kv = await client.get(key)
            assert kv is not None
            assert kv.value == value
