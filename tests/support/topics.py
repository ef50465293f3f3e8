"""What tests of topics have in common."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from leaderjob.etcd import Etcd
from leaderjob.recipes import Message, Missed, Topic


async def take(messages: AsyncGenerator[Message | Missed, None], count: int) -> list[bytes | int | None]:
    """The next so many: of messages their values, of what was missed how many they were."""
    taken: list[bytes | int | None] = []
    async with asyncio.timeout(10):
        while len(taken) < count:
            item = await anext(messages)
            taken.append(item.value if isinstance(item, Message) else item.count)
    return taken


async def first_of(
    messages: AsyncGenerator[Message | Missed, None], count: int
) -> AsyncGenerator[Message | Missed, None]:
    async with aclosing(messages):
        for _ in range(count):
            yield await anext(messages)


async def kept(client: Etcd, namespace: str) -> list[bytes]:
    """The messages of the topic ``news``."""
    messages = (await client.range(f"/leaderjob/{namespace}/topics/news/messages/")).kvs
    return [kv.value for kv in messages if not kv.key.endswith("/trimmed")]


async def publish(topic: Topic, *values: str) -> list[int]:
    return [await topic.publish(value.encode()) for value in values]
