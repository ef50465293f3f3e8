"""Topics against a real etcd: order, replay, retention, and writes without an answer."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, NotFound, SettingsError
from leaderjob.etcd import (
    Delete,
    Etcd,
    EtcdUnavailable,
    NoSpace,
    Put,
    RequestRefused,
    ValueTooLarge,
)
from leaderjob.recipes import Message, Missed, SubscriptionLost, Topic, Unsettled
from leaderjob.recipes.record import encode
from leaderjob.recipes.retention import TRIM_EVERY
from tests.support.commands import Lines, said
from tests.support.etcd import etcdctl
from tests.support.streams import run_with_streams
from tests.support.unanswered import Fate, Unanswered


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


def test_all_subscribers_get_the_same_messages_in_the_order_of_their_revisions(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
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

    run_with_streams(main())


def test_a_subscriber_begins_with_what_comes_or_with_the_last_or_after_a_revision(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
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

    run_with_streams(main())


def test_a_message_tells_when_it_was_published_and_its_number(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:
            topic = Topic(client, "news", keep_count=2, namespace=namespace)
            before = datetime.now(UTC)
            revisions = await publish(topic, "1", "2", "3")
            await topic.trim()
            async with aclosing(topic.subscribe(last=1)) as messages:
                item = await anext(messages)
            assert isinstance(item, Message)
            assert (item.number, item.revision) == (3, revisions[2])
            assert (
                before - timedelta(seconds=1) < item.published_at < datetime.now(UTC) + timedelta(seconds=1)
            )

    run_with_streams(main())


def test_the_oldest_are_trimmed_by_count_and_who_comes_later_is_told_how_many(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
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

    run_with_streams(main())


def test_the_oldest_are_trimmed_by_age_and_one_from_the_future_is_not_passed_over(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:
            topic = Topic(client, "news", keep_s=60, namespace=namespace)
            now_ms = int(time.time() * 1000)
            for age_s, name in ((120, "a"), (90, "b"), (-3600, "c"), (120, "d")):
                await topic.publish(
                    name.encode(), message_id=f"{now_ms - age_s * 1000:013d}-{age_s % 16:016x}"
                )
            await topic.trim()
            async with aclosing(topic.subscribe(last=9)) as messages:
                assert await take(messages, 2) == [b"c", b"d"]

    run_with_streams(main())


def test_many_publishers_keep_to_the_count_and_trim_now_and_then(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.recipes.retention.TRIM_EVERY_S", 3600.0)

    async def main() -> None:
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

    run_with_streams(main())


def test_who_asks_for_nothing_keeps_what_others_asked_for(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
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

    run_with_streams(main())


@pytest.mark.parametrize(
    "damaged",
    [b"1000", b'{"v": 1, "messages": 0, "seconds": null}', b'{"v": 1, "messages": 1, "seconds": NaN}'],
)
def test_nothing_is_trimmed_by_a_record_that_says_nothing_of_how_much_to_keep(
    etcd: EmbeddedEtcd, namespace: str, damaged: bytes
) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:
            topic = Topic(client, "news", namespace=namespace)
            await publish(topic, "1", "2")
            await client.put(f"/leaderjob/{namespace}/topics/news/keep", damaged)
            assert await topic.trim() == 0
            assert await Topic(client, "news", keep_count=1, namespace=namespace).trim() == 1

    run_with_streams(main())


def test_how_much_to_keep_is_told_though_etcd_does_not_answer_at_first(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        async with Unanswered([etcd.endpoint]) as client:
            fates: list[Fate] = ["later", "done"]
            for keep_count, fate in enumerate(fates, start=2):
                topic = Topic(client, "news", keep_count=keep_count, namespace=namespace)
                client.fates = [fate]
                await publish(topic, "1", "2", "3", "4")
                await topic.trim()
                assert len(await kept(client, namespace)) == keep_count

    run_with_streams(main())


def test_a_topic_that_is_removed_is_empty_and_no_late_publication_brings_a_message_back(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
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

    run_with_streams(main())


def test_publishing_stands_though_trimming_fails(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
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

    run_with_streams(main())


@pytest.mark.parametrize("fate", ["done", "later"])
def test_a_message_without_an_answer_is_published_once(
    etcd: EmbeddedEtcd, namespace: str, fate: Fate
) -> None:
    async def main() -> None:
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

    run_with_streams(main())


def test_a_try_that_arrives_after_its_message_was_trimmed_does_not_publish_it_again(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        async with Unanswered([etcd.endpoint]) as client:
            topic = Topic(client, "news", keep_count=1, namespace=namespace)
            await publish(topic, "first")
            client.fates = ["later"]
            await publish(topic, "once", "more", "last")
            await topic.trim()
            assert await client.deliver_late() == [False]
            async with aclosing(topic.subscribe(last=9)) as messages:
                assert await take(messages, 1) == [b"last"]

    run_with_streams(main())


def test_who_cannot_tell_whether_its_message_was_trimmed_already_says_so(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
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

    run_with_streams(main())


def test_numbers_are_right_after_a_revision_that_is_compacted(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:
            topic = Topic(client, "news", keep_count=3, namespace=namespace)
            _, _, _, fourth, *_ = await publish(topic, "1", "2", "3", "4", "5")
            await topic.trim()
            etcdctl(etcd.endpoint, "compact", str((await client.range("/")).revision))
            async with aclosing(topic.subscribe(since=fourth)) as messages:
                item = await anext(messages)
            assert isinstance(item, Message)
            assert (item.value, item.number) == (b"5", 5)

    run_with_streams(main())


@pytest.mark.parametrize("fate", ["took the last room", "found no room"])
def test_an_etcd_that_is_full_is_told_unless_the_message_took_the_last_room(
    etcd: EmbeddedEtcd, namespace: str, fate: Fate
) -> None:
    async def main() -> None:
        async with Unanswered([etcd.endpoint]) as client:
            topic = Topic(client, "news", namespace=namespace)
            await publish(topic, "1")
            client.fates = [fate]
            if fate == "took the last room":
                assert await topic.publish(b"2") == (await client.range("/")).revision
            else:
                with pytest.raises(NoSpace):
                    await topic.publish(b"2")

    run_with_streams(main())


def test_an_etcd_that_does_not_answer_is_told_and_nothing_is_published(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.recipes.settled.PATIENCE_S", 0.0)

    async def main() -> None:
        async with Etcd(["127.0.0.1:1"], call_timeout_s=0.2) as nobody:
            topic = Topic(nobody, "news", namespace=namespace)
            with pytest.raises(EtcdUnavailable):
                await topic.publish(b"1")
            with pytest.raises(EtcdUnavailable):
                await anext(topic.subscribe())

    run_with_streams(main())


def test_bad_input_is_refused_before_anything_is_written(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
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

    run_with_streams(main())


def test_foreign_keys_are_told_and_left_alone(
    etcd: EmbeddedEtcd, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
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

    run_with_streams(main())
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
