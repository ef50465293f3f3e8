"""Topics against a real etcd: order, replay, removal, bad input, and the commands."""

import asyncio
import sys
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, NotFound, SettingsError
from leaderjob.etcd import Etcd, RequestRefused, ValueTooLarge
from leaderjob.recipes import Message, SubscriptionLost, Topic
from tests.support.commands import Lines, said
from tests.support.topics import first_of, publish, take
from tests.support.unanswered import Unanswered


async def test_all_subscribers_get_the_same_messages_in_the_order_of_their_revisions(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "news", namespace=namespace)
        await publish(topic, "before")
        readers = [topic.subscribe(last=1) for _ in range(3)]
        assert [await take(reader, 1) for reader in readers] == [[b"before"]] * 3
        revisions = await asyncio.gather(*(topic.publish(b"%d" % number) for number in range(20)))
        in_order = [b"%d" % number for _, number in sorted(zip(revisions, range(20), strict=True))]
        assert [await take(reader, 20) for reader in readers] == [in_order] * 3
        for reader in readers:
            await reader.aclose()


async def test_a_subscriber_begins_with_what_comes_or_with_the_last_or_after_a_revision(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "news", namespace=namespace)
        _, second, _, _ = await publish(topic, "1", "2", "3", "4")
        async with (
            aclosing(topic.subscribe()) as new,
            aclosing(topic.subscribe(last=2)) as last,
            aclosing(topic.subscribe(last=99)) as every,
            aclosing(topic.subscribe(since=second)) as since,
            aclosing(topic.subscribe(since=0)) as first,
        ):
            coming = asyncio.create_task(take(new, 1))
            assert await take(last, 2) == [b"3", b"4"]
            assert await take(since, 2) == [b"3", b"4"]
            assert await take(every, 4) == await take(first, 4) == [b"1", b"2", b"3", b"4"]
            while not coming.done():
                await publish(topic, "5")
                await asyncio.wait([coming], timeout=0.2)
            assert await coming == [b"5"]


async def test_a_message_tells_when_it_was_published_and_its_number(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "news", keep_count=2, namespace=namespace)
        before = datetime.now(UTC)
        revisions = await publish(topic, "1", "2", "3")
        await topic.trim()
        async with aclosing(topic.subscribe(last=1)) as messages:
            item = await anext(messages)
        assert isinstance(item, Message)
        assert (item.number, item.revision) == (3, revisions[2])
        assert before - timedelta(seconds=1) < item.published_at < datetime.now(UTC) + timedelta(seconds=1)


async def test_a_topic_that_is_removed_is_empty_and_no_late_publication_brings_a_message_back(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        topic = Topic(client, "news", keep_count=300, namespace=namespace)
        await publish(topic, *map(str, range(130)))
        subscription = await topic.subscription("mine", last=1)
        (last,) = [item async for item in first_of(subscription.messages(), 1)]
        live = topic.subscribe(last=1)
        assert await take(live, 1) == [b"129"]
        client.fates = ["later"]
        await publish(topic, "again")  # of which the first try is under way still
        assert await Topic(client, "news", namespace=namespace).remove() == 131
        assert await client.deliver_late() == [False]
        names = [kv.key.split("news/")[1] for kv in (await client.range(f"/leaderjob/{namespace}/")).kvs]
        assert sorted(names) == ["last-subscription", "messages/trimmed"]
        with pytest.raises(SubscriptionLost, match="removed"):
            await subscription.handled(last)
        with pytest.raises(NotFound, match="neither messages nor subscriptions"):
            await topic.remove()
        await publish(topic, "new")
        assert await take(live, 2) == [b"again", b"new"]
        assert await take(topic.subscribe(since=0), 2) == [131, b"new"]


async def test_bad_input_is_refused_before_anything_is_written(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        for name in ("", "a/b", "Upper"):
            with pytest.raises(InvalidName):
                Topic(client, name, namespace=namespace)
        with pytest.raises(SettingsError, match="a whole number, of one at least"):
            Topic(client, "news", keep_count=0, namespace=namespace)
        for keep_s in (0.0, -1.0, float("nan")):
            with pytest.raises(SettingsError, match="above 0"):
                Topic(client, "news", keep_s=keep_s, namespace=namespace)
        topic = Topic(client, "news", namespace=namespace)
        with pytest.raises(ValueTooLarge, match="1500000"):
            await topic.publish(b"x" * 2_000_000)
        with pytest.raises(SettingsError, match="not the id of a message"):
            await topic.publish(b"x", message_id="mine")
        for last, since in ((-1, None), (0, -1), (1, 1)):
            with pytest.raises(SettingsError, match="say one of them"):
                await anext(topic.subscribe(last=last, since=since))
        with pytest.raises(RequestRefused, match="future"):
            await anext(topic.subscribe(since=1 << 40))
        with pytest.raises(InvalidName):
            await topic.subscription("a/b")
        with pytest.raises(SettingsError):
            await topic.subscription("a", last=-1)
        assert not (await client.range(f"/leaderjob/{namespace}/")).kvs
        await topic.publish(b"1", message_id=f"{1:013d}-{1:016x}")
        with pytest.raises(SettingsError, match="another message"):
            await topic.publish(b"2", message_id=f"{1:013d}-{1:016x}")


async def test_foreign_keys_are_told_and_left_alone(
    etcd: EmbeddedEtcd, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        topic = Topic(client, "news", keep_count=1, namespace=namespace)
        prefix = f"/leaderjob/{namespace}/topics/news/messages/"
        await client.put(f"{prefix}by-hand", b"\xff")
        await publish(topic, "1", "2")
        async with aclosing(topic.subscribe(since=0)) as messages:
            assert await take(messages, 2) == [b"1", b"2"]
            first = next(kv for kv in (await client.range(prefix)).kvs if kv.value == b"1")
            await client.put(first.key, b"overwritten")
            await publish(topic, "3")
            assert await take(messages, 1) == [b"3"]
        await topic.trim()
        assert await client.get(f"{prefix}by-hand") is not None
        await client.put(f"{prefix}trimmed", b"nonsense")
        await publish(topic, "4")
        assert await topic.trim() == 0
        async with aclosing(topic.subscribe(last=2)) as messages:
            assert await take(messages, 2) == [b"3", b"4"]
    reasons = [getattr(record, "fields", {}).get("reason", "") for record in caplog.records]
    for told in ("not the id of a message", "overwritten", "no record"):
        assert any(told in str(reason) for reason in reasons), told


def test_the_commands_publish_and_read(etcd: EmbeddedEtcd, namespace: str) -> None:
    where = ["--etcd", etcd.endpoint, "--namespace", namespace]
    ended = said(["topic", "pub", *where, "--keep", "2", "news", "1", "2", "3"])
    assert (ended.returncode, "published: 3" in ended.stdout) == (0, True)
    ended = said(["topic", "sub", *where, "news", "--last", "2", "--count", "2"])
    assert (ended.returncode, ended.stdout) == (0, "2\n3\n")
    # By a subscription, each run continues where the one before stopped.
    for expected in ("2\n", "3\n"):
        ended = said(["topic", "sub", *where, "news", "--last", "2", "--count", "1", "--as", "mine"])
        assert (ended.returncode, ended.stdout) == (0, expected)
    said(["topic", "pub", *where, "--keep", "2", "news", "4", "5", "6"])
    said(["topic", "pub", *where, "--keep", "2", "news", "7"])
    ended = said(["topic", "sub", *where, "news", "--count", "1", "--as", "mine"])
    assert ended.stderr == "missed 2 messages, which are not kept any more\n"
    assert said(["topic", "unsub", *where, "news", "mine"]).returncode == 0
    assert said(["topic", "unsub", *where, "news", "mine"]).returncode == 4
    assert said(["topic", "sub", *where, "news", "--last", "-1"]).returncode == 2
    assert said(["topic", "pub", *where, "news"]).returncode == 2
    assert said(["topic", "pub", *where, "--keep", "0", "news", "1"]).returncode == 2
    ended = said(["topic", "remove", *where, "news"])
    assert (ended.returncode, "with 2 messages" in ended.stdout) == (0, True)
    assert said(["topic", "remove", *where, "news"]).returncode == 4


def test_the_command_publishes_an_id_once_and_tells_how_far_it_came(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    where = ["--etcd", etcd.endpoint, "--namespace", namespace, "news"]
    message_id = f"{1:013d}-{7:016x}"
    first = said(["topic", "pub", *where, "once", "--id", message_id])
    again = said(["topic", "pub", *where, "once", "--id", message_id])
    assert (first.returncode, again.returncode, again.stdout) == (0, 0, first.stdout)
    assert said(["topic", "pub", *where, "a", "b", "--id", message_id]).returncode == 2
    assert said(["topic", "pub", *where, "other", "--id", message_id]).returncode == 2
    too_large = "x" * 2_000_000
    ended = said(["topic", "pub", *where, "a", "b", too_large, "c"])
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "published: 2 of 4, the last one at revision" in ended.stderr
    ended = said(["topic", "sub", *where, "--last", "9", "--count", "3"])
    assert ended.stdout == "once\na\nb\n"


@pytest.mark.slow
def test_a_reader_on_the_command_line_prints_what_comes(etcd: EmbeddedEtcd, namespace: str) -> None:
    where = ["--etcd", etcd.endpoint, "--namespace", namespace]
    with Lines(
        sys.executable, "-m", "leaderjob", "topic", "sub", *where, "news", "--json", "--last", "1"
    ) as out:
        said(["topic", "pub", *where, "news", "hello"])
        assert '"value": "hello"' in out.until(lambda line: "hello" in line)
