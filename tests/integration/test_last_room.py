"""A write that took the last room of an etcd is done, and told to have found none (etcd #16659)."""

from collections.abc import Awaitable, Callable
from itertools import repeat

import pytest
from pydantic import BaseModel

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import AmbiguousWrite, NoSpace, Transaction, transaction
from leaderjob.recipes import Barrier, ConfigStore, Message, Progress, Topic
from tests.support.unanswered import Unanswered


class Limits(BaseModel):
    lowest: int = 0


async def publish(client: Unanswered, namespace: str) -> object:
    await Topic(client, "news", namespace=namespace).publish(b"1")
    return (await client.range(f"/leaderjob/{namespace}/")).count


async def make_a_subscription(client: Unanswered, namespace: str) -> object:
    await Topic(client, "news", namespace=namespace).subscription("reader")
    return (await client.range(f"/leaderjob/{namespace}/topics/news/subscriptions/")).count


async def move_a_cursor(client: Unanswered, namespace: str) -> object:
    topic = Topic(client, "news", namespace=namespace)
    fates, client.fates = client.fates, []
    revision = await topic.publish(b"1")
    reader = await topic.subscription("reader", last=1)
    client.fates = fates
    await reader.handled(Message("", b"1", revision, 1))
    await reader.handled(Message("", b"1", revision, 1))
    return 1


async def set_a_condition(client: Unanswered, namespace: str) -> object:
    barrier = Barrier(client, "ready", namespace=namespace)
    assert await barrier.set("database", "migrated") == (await client.range("/")).revision
    return len(await barrier.conditions())


async def report(client: Unanswered, namespace: str) -> object:
    progress = Progress(client, "import", namespace=namespace)
    await progress.set(50)
    return 1 if await progress.latest() else 0


async def configure(client: Unanswered, namespace: str) -> object:
    store = ConfigStore(client, Limits, "limits", namespace=namespace)
    await store.set("lowest", 1)
    return len(await store.history())


async def transact(client: Unanswered, namespace: str) -> object:
    ran = 0

    async def body(t: Transaction) -> None:
        nonlocal ran
        ran += 1
        await t.create(f"/{namespace}/receipt", b"")
        t.put(f"/{namespace}/balance", b"1")

    await transaction(client, body)
    return ran


Write = Callable[[Unanswered, str], Awaitable[object]]
WRITES = pytest.mark.parametrize(
    "write", [publish, make_a_subscription, move_a_cursor, set_a_condition, report, configure, transact]
)


@WRITES
async def test_what_took_the_last_room_is_done_once_and_not_told_as_refused(
    etcd: EmbeddedEtcd, namespace: str, write: Write
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        client.fates = ["took the last room"]
        assert await write(client, namespace) == 1
        assert not client.fates


@WRITES
async def test_what_found_no_room_is_told_to_be_refused(
    etcd: EmbeddedEtcd, namespace: str, write: Write
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        client.fates = ["found no room"]
        with pytest.raises(NoSpace):
            await write(client, namespace)


async def test_a_full_etcd_after_a_try_without_an_answer_is_not_told_as_not_done(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.recipes.settled.PATIENCE_S", 0.3)

    async with Unanswered([etcd.endpoint]) as client:
        barrier = Barrier(client, "ready", namespace=namespace)
        client.fates = ["later", *repeat("found no room", 200)]
        with pytest.raises(AmbiguousWrite):
            await barrier.set("database", "migrated")
        client.fates = []
        assert await client.deliver_late() == [True]
        assert await barrier.conditions() == {"database": "migrated"}


async def test_what_took_the_last_room_and_tells_nothing_of_itself_is_in_doubt(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Unanswered([etcd.endpoint]) as client:

        async def body(t: Transaction) -> None:
            t.put(f"/{namespace}/a", b"1")

        client.fates = ["took the last room"]
        with pytest.raises(AmbiguousWrite):
            await transaction(client, body)
        assert not client.fates
