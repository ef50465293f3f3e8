"""Sessions that hold locks, and looks from outside at what is left of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

from leaderjob.etcd import Etcd, KeyValue, follow
from leaderjob.recipes import Session, Timing

TIMING = Timing(ttl_s=60, margin_s=2, keepalive_s=2)
"""For tests that are not about the TTL: trust outlasts whatever a busy machine holds up."""


@asynccontextmanager
async def session_on(endpoint: str, timing: Timing = TIMING) -> AsyncIterator[Session]:
    """A session of its own client."""
    async with Etcd([endpoint]) as client, await Session.open(client, timing) as session:
        yield session


@asynccontextmanager
async def waiting(acquire: Awaitable[object]) -> AsyncIterator["asyncio.Task[object]"]:
    """Somebody who acquires in the background, and gives up at the end if it did not come to that."""

    async def acquiring() -> object:
        return await acquire

    task = asyncio.create_task(acquiring())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def keys_below(endpoint: str, namespace: str) -> list[KeyValue]:
    async with Etcd([endpoint]) as client:
        return list((await client.range(f"/leaderjob/{namespace}/")).kvs)


async def until_keys(endpoint: str, prefix: str, wanted: Callable[[dict[str, KeyValue]], bool]) -> None:
    """Return as soon as what is below ``prefix`` is as it is wanted."""
    keys: dict[str, KeyValue] = {}
    async with Etcd([endpoint]) as client, aclosing(follow(client, prefix)) as batches:
        async for batch in batches:
            for event in batch.events:
                keys.pop(event.key, None)
                if event.now is not None:
                    keys[event.key] = event.now
            if wanted(keys):
                return


async def until_standing(endpoint: str, prefix: str, number: int) -> None:
    """Return as soon as so many keys are below ``prefix``."""
    await until_keys(endpoint, prefix, lambda keys: len(keys) == number)
