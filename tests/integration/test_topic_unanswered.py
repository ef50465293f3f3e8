"""Publications without an answer, and to an etcd that is full, silent or compacted."""

import time
from contextlib import aclosing

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Delete, Etcd, EtcdUnavailable, NoSpace, Put
from leaderjob.recipes import Message, Topic, Unsettled
from leaderjob.recipes.record import encode
from tests.support.etcd import etcdctl
from tests.support.topics import publish, take
from tests.support.unanswered import Fate, Unanswered


async def test_publishing_stands_though_trimming_fails(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        topic = Topic(client, "news", keep_count=1, namespace=namespace)
        other = Topic(client, "news", keep_count=1, namespace=namespace)
        await publish(topic, "1", "2")
        await other._publish(f"{int(time.time() * 1000)}-{0:016x}", b"3")
        client.fates = ["later"]
        await other._retention.published()
        assert not client.fates
        assert await topic.trim() == 2
        assert await client.deliver_late() == [False]


@pytest.mark.parametrize("fate", ["done", "later"])
async def test_a_message_without_an_answer_is_published_once(
    etcd: EmbeddedEtcd, namespace: str, fate: Fate
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        topic = Topic(client, "news", namespace=namespace)
        await publish(topic, "first")
        client.fates = [fate, fate]
        revision = await topic.publish(b"once")
        await publish(topic, "last")
        async with aclosing(topic.subscribe(since=0)) as messages:
            first, item = await anext(messages), await anext(messages)
            assert isinstance(first, Message)
            assert isinstance(item, Message)
            assert (item.value, item.revision) == (b"once", revision)
            assert await take(messages, 1) == [b"last"]
        assert True not in await client.deliver_late()


async def test_a_try_that_arrives_after_its_message_was_trimmed_does_not_publish_it_again(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        topic = Topic(client, "news", keep_count=1, namespace=namespace)
        await publish(topic, "first")
        client.fates = ["later"]
        await publish(topic, "once", "more", "last")
        await topic.trim()
        assert await client.deliver_late() == [False]
        async with aclosing(topic.subscribe(last=9)) as messages:
            assert await take(messages, 1) == [b"last"]


async def test_who_cannot_tell_whether_its_message_was_trimmed_already_says_so(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        topic = Topic(client, "news", namespace=namespace)
        await publish(topic, "first")
        prefix = f"/leaderjob/{namespace}/topics/news/messages/"

        async def trimmed() -> None:
            await client.put(f"{prefix}trimmed", encode(up_to=1, total=0))

        client.fates, client.meanwhile = ["never"], trimmed
        await publish(topic, "second")  # what was trimmed is older than the first try

        async def all_trimmed() -> None:
            """With all that comes until long after it."""
            gone = encode(up_to=(await client.range(prefix)).revision + 100, total=3)
            await client.txn((), [Delete(f"{prefix}1", prefix=True), Put(f"{prefix}trimmed", gone)])

        client.fates, client.meanwhile = ["done"], all_trimmed
        with pytest.raises(Unsettled, match="message_id=") as told:
            await topic.publish(b"third")
        again = await topic.publish(b"third", message_id=told.value.message_id)
        assert await topic.publish(b"third", message_id=told.value.message_id) == again


async def test_numbers_are_right_after_a_revision_that_is_compacted(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "news", keep_count=3, namespace=namespace)
        _, _, _, fourth, *_ = await publish(topic, "1", "2", "3", "4", "5")
        await topic.trim()
        etcdctl(etcd.endpoint, "compact", str((await client.range("/")).revision))
        async with aclosing(topic.subscribe(since=fourth)) as messages:
            item = await anext(messages)
        assert isinstance(item, Message)
        assert (item.value, item.number) == (b"5", 5)


@pytest.mark.parametrize("fate", ["took the last room", "found no room"])
async def test_an_etcd_that_is_full_is_told_unless_the_message_took_the_last_room(
    etcd: EmbeddedEtcd, namespace: str, fate: Fate
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        topic = Topic(client, "news", namespace=namespace)
        await publish(topic, "1")
        client.fates = [fate]
        if fate == "took the last room":
            assert await topic.publish(b"2") == (await client.range("/")).revision
        else:
            with pytest.raises(NoSpace):
                await topic.publish(b"2")


async def test_an_etcd_that_does_not_answer_is_told_and_nothing_is_published(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.recipes.settled.PATIENCE_S", 0.0)

    async with Etcd(["127.0.0.1:1"], call_timeout_s=0.2) as nobody:
        topic = Topic(nobody, "news", namespace=namespace)
        with pytest.raises(EtcdUnavailable):
            await topic.publish(b"1")
        with pytest.raises(EtcdUnavailable):
            await anext(topic.subscribe())
