"""How much of a topic is kept: what is trimmed, what each one asked for, and what nobody understands."""

import asyncio
import json
import math
import time
from contextlib import aclosing

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Missed, Topic
from leaderjob.recipes.retention import KEEP_COUNT, TRIM_EVERY
from leaderjob.telemetry.events import Events
from tests.support.etcd import etcdctl
from tests.support.hearing import hearing
from tests.support.topics import kept, publish, take
from tests.support.unanswered import Fate, Unanswered


async def test_the_oldest_are_trimmed_by_count_and_who_comes_later_is_told_how_many(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "news", keep_count=3, namespace=namespace)
        first, second, *_ = await publish(topic, *"12345678")
        assert await topic.trim() == 5
        for since, missed in ((0, 5), (first, 4), (second, 3)):
            async with aclosing(topic.subscribe(since=since)) as messages:
                assert await take(messages, 4) == [missed, b"6", b"7", b"8"]
        async with aclosing(topic.subscribe(last=99)) as messages:
            assert await take(messages, 3) == [b"6", b"7", b"8"]
        etcdctl(etcd.endpoint, "compact", str((await client.range("/")).revision))
        async with aclosing(topic.subscribe(since=first)) as messages:
            assert await take(messages, 4) == [None, b"6", b"7", b"8"]


async def test_the_oldest_are_trimmed_by_age_and_one_from_the_future_is_not_passed_over(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "news", keep_s=60, namespace=namespace)
        now_ms = int(time.time() * 1000)
        for age_s, name in ((120, "a"), (90, "b"), (-3600, "c"), (120, "d")):
            await topic.publish(name.encode(), message_id=f"{now_ms - age_s * 1000:013d}-{age_s % 16:016x}")
        await topic.trim()
        async with aclosing(topic.subscribe(last=9)) as messages:
            assert await take(messages, 2) == [b"c", b"d"]


async def test_many_publishers_keep_to_the_count_and_trim_now_and_then(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.recipes.retention.TRIM_EVERY_S", 3600.0)

    async with Etcd([etcd.endpoint]) as client:
        topics = [Topic(client, "busy", keep_count=10, namespace=namespace) for _ in range(3)]
        prefix = f"/leaderjob/{namespace}/topics/busy/messages/"

        async def work(topic: Topic) -> None:
            for number in range(2 * TRIM_EVERY + 1):
                await topic.publish(b"%d" % number)

        await asyncio.gather(*(work(topic) for topic in topics))
        kept = (await client.range(prefix)).kvs
        record = await client.get(prefix + "trimmed")
        assert record is not None
        assert len(kept) - 1 <= 10 + len(topics) * TRIM_EVERY
        assert record.version <= 5 * len(topics)
        async with aclosing(topics[0].subscribe(since=0)) as messages:
            missed = await anext(messages)
            rest = await take(messages, len(kept) - 1)
        assert isinstance(missed, Missed)
        assert missed.count == 3 * (2 * TRIM_EVERY + 1) - len(rest)


async def test_who_asks_for_nothing_keeps_what_others_asked_for(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        many = Topic(client, "news", keep_count=1003, namespace=namespace)
        await asyncio.gather(*(many.publish(b"%d" % number) for number in range(1005)))
        plain = Topic(client, "news", namespace=namespace)
        await plain.publish(b"plain")
        assert len(await kept(client, namespace)) == 1003
        assert await plain.trim() == 0
        await publish(Topic(client, "news", keep_count=3, namespace=namespace), "few")
        assert await plain.trim() == 0
        assert len(await kept(client, namespace)) == 3  # and the last one who asked prevails
        await publish(many, "one", "two")
        await many.trim()
        assert await kept(client, namespace) == [b"few", b"one", b"two"]
        unasked = Topic(client, "others", namespace=namespace)
        await publish(unasked, "1")
        assert await client.get(f"/leaderjob/{namespace}/topics/others/keep") is None


@pytest.mark.parametrize(
    "damaged",
    [b"1000", b'{"v": 1, "messages": 0, "seconds": null}', b'{"v": 1, "messages": 1, "seconds": NaN}'],
)
async def test_nothing_is_trimmed_by_a_record_that_says_nothing_of_how_much_to_keep(
    etcd: EmbeddedEtcd, namespace: str, damaged: bytes
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "news", namespace=namespace)
        await publish(topic, "1", "2")
        await client.put(f"/leaderjob/{namespace}/topics/news/keep", damaged)
        assert await topic.trim() == 0
        assert await Topic(client, "news", keep_count=1, namespace=namespace).trim() == 1


async def test_how_much_to_keep_is_told_though_etcd_does_not_answer_at_first(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        fates: list[Fate] = ["later", "done"]
        for keep_count, fate in enumerate(fates, start=2):
            topic = Topic(client, "news", keep_count=keep_count, namespace=namespace)
            client.fates = [fate]
            await publish(topic, "1", "2", "3", "4")
            await topic.trim()
            assert len(await kept(client, namespace)) == keep_count


async def test_who_asks_for_one_half_of_what_to_keep_leaves_the_other_half(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:

        async def asked(
            *, keep_count: int | None = None, keep_s: float | None = None
        ) -> tuple[int, float | None]:
            topic = Topic(client, "news", keep_count=keep_count, keep_s=keep_s, namespace=namespace)
            await topic.publish(b"1")
            told = await client.get(f"/leaderjob/{namespace}/topics/news/keep")
            assert told is not None
            record = json.loads(told.value)
            return record["messages"], record["seconds"]

        assert await asked(keep_s=60) == (KEEP_COUNT, 60)
        assert await asked(keep_count=5000) == (5000, 60)
        assert await asked(keep_s=3600) == (5000, 3600)
        assert await asked(keep_count=7) == (7, 3600)
        assert await asked(keep_s=math.inf) == (7, None)
        assert await asked(keep_count=8) == (8, None)


async def test_what_nobody_can_read_is_told_once_by_each_publisher_however_often_it_trims(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        root = f"/leaderjob/{namespace}/topics/news"
        topic = Topic(client, "news", namespace=namespace)

        async def told() -> list[str]:
            with hearing() as heard:
                for _ in range(3):
                    await topic.trim()
            return [fields["key"] for fields in heard.all(Events.RECORD_QUARANTINED)]

        await topic.publish(b"1")
        await client.put(f"{root}/messages/stray", b"x")
        assert await told() == [f"{root}/messages/stray"]
        await client.put(f"{root}/messages/stray", b"y")
        assert await told() == [f"{root}/messages/stray"]
        for damaged in ("keep", "messages/trimmed"):
            await client.put(f"{root}/{damaged}", b"nonsense")
            assert await told() == [f"{root}/{damaged}"]
        topic = Topic(client, "news", namespace=namespace)
        assert sorted(await told()) == [f"{root}/keep", f"{root}/messages/trimmed"]
