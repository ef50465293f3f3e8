"""A watch as a consumer sees it: event after event, across connections and compactions."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import (
    Compacted,
    Etcd,
    EtcdUnavailable,
    Event,
    EventKind,
    Put,
    RangeResult,
    follow,
    stream,
    watch,
)
from leaderjob.etcd.connection import Connection
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl, every_release


def told(event: Event) -> tuple[EventKind, str, bytes | None, bytes | None]:
    """What it is, the last letter of the key, and the values before and now."""
    before, now = (kv and kv.value for kv in (event.before, event.now))
    return event.kind, event.key[-1], before, now


async def take(events: AsyncGenerator[Event, None], count: int) -> list[Event]:
    return [await anext(events) for _ in range(count)]


@every_release("etcd")
async def test_events_say_what_happened_and_what_was_there_before(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        key = f"/{namespace}/a"
        since = await client.put(key, b"1")
        async with aclosing(watch(client, f"/{namespace}/", since=since)) as events:
            await client.put(key, b"2")
            await client.delete(key)
            await client.txn((), [Put(key, b"3"), Put(f"/{namespace}/b", b"3")])
            found = await take(events, 4)
        assert [told(event) for event in found] == [
            (EventKind.UPDATED, "a", b"1", b"2"),
            (EventKind.DELETED, "a", b"2", None),
            (EventKind.CREATED, "a", None, b"3"),
            (EventKind.CREATED, "b", None, b"3"),
        ]
        revisions = [event.revision - since for event in found]
        assert revisions == [1, 2, 3, 3]


async def test_what_was_there_when_it_began_is_no_event(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        await client.put(f"/{namespace}/a", b"1")
        async with aclosing(watch(client, f"/{namespace}/")) as events:
            first = asyncio.ensure_future(anext(events))
            number = 1
            while not first.done():
                number += 1
                await client.put(f"/{namespace}/a", str(number).encode())
            kind, _, before, now = told(await first)
        assert kind is EventKind.UPDATED
        assert int(now or b"") == int(before or b"") + 1


@pytest.mark.timeout_s(15)
async def test_a_compaction_arrives_as_the_difference_and_nothing_else_changes(
    own_etcd: EmbeddedEtcd,
) -> None:
    async with (
        Cuttable(own_etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
        Etcd([own_etcd.endpoint]) as other,
    ):
        since = await other.put("/w/a", b"0")
        async with aclosing(watch(client, "/w/", since=since)) as events:
            await other.put("/w/a", b"1")
            await anext(events)
            await proxy.refuse()
            for number in (2, 3, 4):
                await other.put("/w/a", str(number).encode())
            await other.put("/w/b", b"passing")
            await other.delete("/w/b")
            revision = (await other.range("/w/")).revision
            etcdctl(own_etcd.endpoint, "compact", str(revision))
            await proxy.accept()
            assert told(await anext(events)) == (EventKind.UPDATED, "a", b"1", b"4")
            await other.put("/w/a", b"5")
            assert told(await anext(events)) == (EventKind.UPDATED, "a", b"4", b"5")


async def test_what_happened_since_a_revision_that_is_compacted_away_cannot_be_told(
    own_etcd: EmbeddedEtcd,
) -> None:
    async with Etcd([own_etcd.endpoint]) as client:
        since = await client.put("/w/a", b"1")
        revision = await client.put("/w/a", b"2")
        etcdctl(own_etcd.endpoint, "compact", str(revision))
        with pytest.raises(Compacted):
            await anext(watch(client, "/w/", since=since))


async def test_a_compaction_between_the_pages_of_the_first_listing_is_not_seen(
    own_etcd: EmbeddedEtcd,
) -> None:
    class Compacting(Etcd):
        """Whose first range meets a compaction between two pages, as it may with thousands of keys."""

        failures = [Compacted(2)]

        async def range(self, prefix: str, *, revision: int = 0) -> RangeResult:
            if self.failures:
                raise self.failures.pop()
            return await super().range(prefix, revision=revision)

    async with Compacting([own_etcd.endpoint]) as client:
        await client.put("/w/a", b"1")
        async with aclosing(follow(client, "/w/")) as batches:
            assert [event.key for event in (await anext(batches)).events] == ["/w/a"]
    assert not Compacting.failures


@pytest.mark.timeout_s(15)
async def test_a_compaction_in_an_outage_is_told_when_that_is_over(own_etcd: EmbeddedEtcd) -> None:
    class Unanswered(Etcd):
        """Which cannot list for a while after it listed for the first time."""

        failures = [EtcdUnavailable(["here"], "an outage") for _ in range(3)]
        listed = False

        async def range(self, prefix: str, *, revision: int = 0) -> RangeResult:
            if self.listed and self.failures:
                raise self.failures.pop()
            self.listed = True
            return await super().range(prefix, revision=revision)

    async with (
        Cuttable(own_etcd.endpoint) as proxy,
        Unanswered([proxy.endpoint]) as client,
        Etcd([own_etcd.endpoint]) as other,
        aclosing(follow(client, "/w/")) as batches,
    ):
        await anext(batches)
        await other.put("/w/sign", b"")  # once it arrives, the watch stands
        await anext(batches)
        await proxy.refuse()
        await other.put("/w/a", b"1")
        revision = await other.put("/w/a", b"2")
        etcdctl(own_etcd.endpoint, "compact", str(revision))
        await proxy.accept()
        difference = await anext(batches)
        assert (difference.listed, [event.key for event in difference.events]) == (True, ["/w/a"])
    assert not Unanswered.failures


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.timeout_s(15)
async def test_where_a_member_answers_but_sends_no_events_another_one_does_or_the_prefix_is_listed(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    one_stream = stream._one_stream

    async with (
        Cuttable(etcd.endpoint) as dumb,
        Etcd([dumb.endpoint, *[etcd.endpoint] * others]) as client,
        Etcd([etcd.endpoint]) as other,
    ):

        async def silent(
            connection: Connection, endpoint: str, request: Any
        ) -> AsyncGenerator[stream.RawBatch, None]:
            async with aclosing(one_stream(connection, endpoint, request)) as batches:
                async for batch in batches:
                    if endpoint != dumb.endpoint:
                        yield batch

        monkeypatch.setattr(stream, "_one_stream", silent)
        async with aclosing(follow(client, f"/{namespace}/", look_again_s=0.1)) as batches:
            await anext(batches)
            await other.put(f"/{namespace}/a", b"1")
            batch = await anext(batches)
        assert batch.listed == (others == 0)
        assert [told(event) for event in batch.events] == [(EventKind.CREATED, "a", None, b"1")]


@pytest.mark.timeout_s(15)
async def test_a_watch_that_is_late_is_not_listed_but_opened_again_where_it_stood(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection broke, and the read that looks whether all is well is answered before it has another."""
    monkeypatch.setattr(stream, "_FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr(stream, "_LONGEST_PAUSE_S", 60.0)
    key = f"/{namespace}/a"

    async with (
        Cuttable(etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
        Etcd([etcd.endpoint]) as other,
        aclosing(follow(client, f"/{namespace}/", look_again_s=0.2)) as batches,
    ):
        await anext(batches)
        await other.put(key, b"0")
        await anext(batches)
        for lost in (1, 2):  # twice, as what it stands on must have moved along
            await proxy.refuse()
            for number in range(5):
                await other.put(key, f"{lost}.{number}".encode())
            await other.put(f"/{namespace}/b", b"passing")
            await other.delete(f"/{namespace}/b")
            await proxy.accept()
            events: list[Event] = []
            while len(events) < 7:
                batch = await anext(batches)
                assert not batch.listed
                events += batch.events
            assert [event.now and event.now.value for event in events] == [
                *(f"{lost}.{number}".encode() for number in range(5)),
                b"passing",
                None,
            ]
