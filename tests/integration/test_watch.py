"""Watches and mirrors against real servers: nothing is lost, nothing comes twice, nothing stays behind."""

import asyncio
import re
import urllib.request
from contextlib import aclosing, suppress

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Batch, Compacted, Etcd, EventKind, Put, channels, follow
from leaderjob.etcd.stream import RawEvent, stream
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl, every_release


async def collect(
    client: Etcd, prefix: str, count: int, *, start_revision: int, seen: asyncio.Queue[int] | None = None
) -> list[RawEvent]:
    """The events from ``start_revision`` on, at least ``count`` of them; ``seen`` is told how many there are."""
    events: list[RawEvent] = []
    async with aclosing(
        stream(client.connection, prefix, start_revision=start_revision, prefix=True, previous=True)
    ) as batches:
        async for batch in batches:
            events.extend(batch.events)
            if seen is not None:
                seen.put_nowait(len(events))
            if len(events) >= count:
                break
    return events


@every_release("etcd")
async def test_a_watch_loses_and_repeats_nothing_while_its_connections_are_reset(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    prefix, writes, writes_per_reset = f"/{namespace}/", 300, 30

    async def write(client: Etcd, proxy: Cuttable, seen: asyncio.Queue[int]) -> None:
        """Resets in the middle of writing, whenever the watch has caught up with the reset before."""
        reset_at = 0
        for number in range(writes):
            await client.put(f"{prefix}{number % 7}", str(number).encode())
            if number % writes_per_reset == writes_per_reset // 2:
                while await seen.get() <= reset_at:
                    pass
                reset_at = number + 2  # the events up to here: what comes later needs a new connection
                proxy.reset()

    async with (
        Cuttable(etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
        Etcd([etcd.endpoint]) as other,
        asyncio.TaskGroup() as group,
    ):
        start = await other.put(f"{prefix}0", b"start")
        seen = asyncio.Queue[int]()
        watching = group.create_task(collect(client, prefix, writes + 1, start_revision=start, seen=seen))
        await write(other, proxy, seen)
        events = await watching
        assert [event.kv.value for event in events] == [
            b"start",
            *(str(number).encode() for number in range(writes)),
        ]
        assert proxy.connections > writes // writes_per_reset


@every_release("etcd")
async def test_a_watch_that_breaks_while_it_catches_up_resumes_after_the_last_event_that_it_saw(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    """etcd sends a watcher that is behind batches of 1000 revisions, each under the newest revision."""
    prefix, writes = f"/{namespace}/", 2500

    async with (
        Cuttable(etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
        Etcd([etcd.endpoint]) as other,
    ):
        start = await other.put(f"{prefix}start", b"")
        for first in range(0, writes, 100):
            puts = (other.put(f"{prefix}{number}", bytes(500)) for number in range(first, first + 100))
            await asyncio.gather(*puts)
        keys: list[str] = []
        batches_seen = 0
        async with aclosing(
            stream(client.connection, prefix, start_revision=start + 1, prefix=True)
        ) as batches:
            async for batch in batches:
                keys.extend(event.kv.key for event in batch.events)
                batches_seen += 1
                if len(keys) >= writes:
                    break
                proxy.reset()
        assert batches_seen > 1, "it was sent in one piece: this showed nothing"
        assert sorted(keys) == sorted(f"{prefix}{number}" for number in range(writes))


@every_release("etcd")
async def test_a_watch_starts_at_the_revision_asked_for(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        await client.put(f"/{namespace}/a", b"before")
        revision = await client.put(f"/{namespace}/a", b"at")
        await client.put(f"/{namespace}/b", b"after")
        events = await collect(client, f"/{namespace}/", 2, start_revision=revision)
        assert [event.kv.value for event in events] == [b"at", b"after"]


async def test_a_watch_on_a_key_is_silent_about_its_neighbours(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        key = f"/{namespace}/a"
        revision = await client.put(f"{key}b", b"neighbour")
        await client.put(key, b"own")
        async with aclosing(stream(client.connection, key, start_revision=revision)) as batches:
            batch = await anext(batches)
        assert [event.kv.key for event in batch.events] == [key]


@every_release("etcd")
async def test_a_deletion_carries_the_value_that_was_deleted(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        revision = await client.put(f"/{namespace}/a", b"precious")
        await client.delete(f"/{namespace}/a")
        (deletion,) = await collect(client, f"/{namespace}/", 1, start_revision=revision + 1)
        assert deletion.deleted
        assert deletion.previous is not None
        assert (deletion.previous.value, deletion.previous.mod_revision) == (b"precious", revision)


@every_release("etcd")
@pytest.mark.timeout_s(20)
async def test_a_replay_of_more_than_four_mebibytes_arrives(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        start = await client.put(f"/{namespace}/start", b"")
        for _ in range(7):
            await client.put(f"/{namespace}/large", bytes(1_000_000))
        events = await collect(client, f"/{namespace}/", 8, start_revision=start)
        assert sum(len(event.kv.value) for event in events) == 7_000_000
        await client.delete(f"/{namespace}/", prefix=True)


async def test_a_watch_from_a_compacted_revision_says_so(own_etcd: EmbeddedEtcd) -> None:
    async with Etcd([own_etcd.endpoint]) as client:
        old = await client.put("/key", b"1")
        new = await client.put("/key", b"2")
        etcdctl(own_etcd.endpoint, "compact", str(new))
        with pytest.raises(Compacted) as caught:
            await collect(client, "/key", 1, start_revision=old)
        assert caught.value.compact_revision == new


def _watch_streams(server: EmbeddedEtcd) -> int:
    """How many watch streams the server has open, in its own words."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{server.endpoint}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.search(r"^etcd_debugging_mvcc_watch_stream_total (\d+)$", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.timeout_s(10)
async def test_closing_a_watch_leaves_no_stream_open_on_the_server(own_etcd: EmbeddedEtcd) -> None:
    """Nor a task, which ``run_with_streams`` checks."""

    async def until_streams(count: int) -> None:
        while await asyncio.to_thread(_watch_streams, own_etcd) != count:
            await asyncio.sleep(0.02)

    async with Etcd([own_etcd.endpoint]) as client:
        revision = await client.put("/key", b"")
        batches = stream(client.connection, "/key", start_revision=revision)
        await anext(batches)
        waiting = asyncio.ensure_future(collect(client, "/key", 2, start_revision=revision))
        await until_streams(2)
        await batches.aclose()
        await until_streams(1)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await until_streams(0)


def _kinds(batch: Batch) -> list[tuple[EventKind, str]]:
    return [(event.kind, event.key[-1]) for event in batch.events]


@every_release("etcd")
async def test_a_mirror_hands_out_the_state_first_and_then_each_change_with_what_was_there_before(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        await client.put(f"/{namespace}/a", b"1")
        async with aclosing(follow(client, f"/{namespace}/")) as batches:
            listing = await anext(batches)
            assert listing.listed
            assert _kinds(listing) == [(EventKind.CREATED, "a")]
            await client.put(f"/{namespace}/a", b"2")
            update = (await anext(batches)).events[0]
            assert update.kind is EventKind.UPDATED
            assert update.before is not None
            assert update.before.value == b"1"
            await client.delete(f"/{namespace}/a")
            deletion = (await anext(batches)).events[0]
            assert deletion.kind is EventKind.DELETED
            assert deletion.now is None
            assert deletion.before is not None
            assert deletion.before.value == b"2"
            await client.txn((), [Put(f"/{namespace}/a", b"3"), Put(f"/{namespace}/b", b"3")])
            both = await anext(batches)
            assert _kinds(both) == [(EventKind.CREATED, "a"), (EventKind.CREATED, "b")]


@pytest.mark.parametrize("how", ["nothing was there", "much was there"])
@pytest.mark.timeout_s(15)
async def test_a_mirror_outlives_a_compaction_and_tells_the_difference(
    own_etcd: EmbeddedEtcd, how: str
) -> None:
    before = () if how == "nothing was there" else ("/m/updated", "/m/deleted", "/m/made anew", "/m/kept")

    async with (
        Cuttable(own_etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
        Etcd([own_etcd.endpoint]) as other,
    ):
        for key in before:
            await other.put(key, b"before")
        async with aclosing(follow(client, "/m/")) as batches:
            assert len((await anext(batches)).events) == len(before)
            await other.put("/m/sign", b"")  # once it arrives, the watch stands
            await anext(batches)
            await proxy.refuse()
            for key in ("/m/updated", "/m/created"):
                await other.put(key, b"after")
            await other.delete("/m/deleted")
            await other.delete("/m/made anew")
            revision = await other.put("/m/made anew", b"after")
            etcdctl(own_etcd.endpoint, "compact", str(revision))
            await proxy.accept()
            difference = await anext(batches)
        assert (difference.listed, difference.revision) == (True, revision)
        told = [(event.kind, event.key.removeprefix("/m/")) for event in difference.events]
        if before:
            assert told == [
                (EventKind.DELETED, "deleted"),
                (EventKind.UPDATED, "updated"),
                (EventKind.CREATED, "created"),
                (EventKind.DELETED, "made anew"),
                (EventKind.CREATED, "made anew"),
            ]
        else:
            assert told == [
                (EventKind.CREATED, "updated"),
                (EventKind.CREATED, "created"),
                (EventKind.CREATED, "made anew"),
            ]


@pytest.mark.timeout_s(5)
async def test_a_watch_moves_on_when_its_member_goes_silent(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that drops everything closes nothing: only pings that stay unanswered tell."""
    ten_times_as_fast = [
        (name, value // 10 if name.endswith(("keepalive_time_ms", "timeout_ms")) else value)
        for name, value in channels._CHANNEL_OPTIONS
    ]
    monkeypatch.setattr(channels, "_CHANNEL_OPTIONS", ten_times_as_fast)

    async with (
        Cuttable(etcd.endpoint) as proxy,
        Etcd([proxy.endpoint, etcd.endpoint]) as client,
        Etcd([etcd.endpoint]) as other,
    ):
        key = f"/{namespace}/a"
        revision = await client.put(key, b"1")
        async with aclosing(stream(client.connection, key, start_revision=revision)) as batches:
            await anext(batches)
            proxy.cut()
            await other.put(key, b"2")
            batch = await anext(batches)
        assert batch.events[0].kv.value == b"2"
