"""The feed at scale: a reader wakes up for its own job only, and a large listing does not stall the event loop."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, KeyValue, Put
from leaderjob.model.job import JobSpec
from leaderjob.model.run import Progress
from leaderjob.records import feed as feed_module
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import Stored, decode
from leaderjob.records.view import View

RECORDS = 1000


@asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[Feed]:
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.wait([task])


class Reader:
    """Waits for its job, and counts how often it looks."""

    def __init__(self, feed: Feed, job: str) -> None:
        self.looked = 0
        self.has_enough = False
        self.waiting = asyncio.create_task(feed.until(self._look, job=job))

    def _look(self, view: View) -> bool:
        self.looked += 1
        return self.has_enough


def spec(keys: Keys, job: str, token: int = 0) -> tuple[str, bytes]:
    return keys.spec(job), JobSpec(name=job, reference="m:f", token=token).to_bytes()


async def test_change_of_a_job_wakes_only_readers_of_that_job(etcd: EmbeddedEtcd, namespace: str) -> None:
    keys = Keys(namespace)
    async with Etcd([etcd.endpoint]) as client, running(Feed(client, keys)) as feed:
        await feed.changed()
        mine, other = Reader(feed, "mine"), Reader(feed, "other")
        await asyncio.sleep(0)
        assert (mine.looked, other.looked) == (1, 1)
        for token in range(3):
            revision = await client.put(*spec(keys, "mine", token))
            await feed.until(lambda view, revision=revision: view.revision >= revision)
        await asyncio.sleep(0)
        assert (mine.looked, other.looked) == (4, 1)
        other.has_enough = True
        await client.put(*spec(keys, "other"))
        await other.waiting
        assert (mine.looked, other.looked) == (4, 2)
        mine.waiting.cancel()


async def test_deletion_of_a_record_wakes_the_readers_of_its_job(etcd: EmbeddedEtcd, namespace: str) -> None:
    keys = Keys(namespace)
    async with Etcd([etcd.endpoint]) as client:
        await client.put(*spec(keys, "mine"))
        async with running(Feed(client, keys)) as feed:
            await feed.changed()
            gone = asyncio.create_task(feed.until(lambda view: "mine" not in view.specs, job="mine"))
            await asyncio.sleep(0)
            await client.delete(keys.spec("mine"))
            await gone


async def test_a_record_that_cannot_be_read_wakes_the_readers_of_its_job_when_it_comes_and_when_it_goes(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    keys = Keys(namespace)
    async with Etcd([etcd.endpoint]) as client, running(Feed(client, keys)) as feed:
        await feed.changed()
        came = asyncio.create_task(feed.until(lambda view: bool(view.newer_of("mine")), job="mine"))
        await asyncio.sleep(0)
        await client.put(keys.pointer("mine"), b'{"v":99}')
        await came
        went = asyncio.create_task(feed.until(lambda view: not view.newer_of("mine"), job="mine"))
        await asyncio.sleep(0)
        await client.delete(keys.pointer("mine"))
        await went


async def test_reading_again_wakes_the_readers_of_every_job(etcd: EmbeddedEtcd, namespace: str) -> None:
    keys = Keys(namespace)
    async with Etcd([etcd.endpoint]) as client, running(Feed(client, keys)) as feed:
        await feed.changed()
        reader = Reader(feed, "unchanged")
        await asyncio.sleep(0)
        reader.has_enough = True
        await feed.read_again()
        await reader.waiting


async def test_wake_lets_the_readers_of_every_job_look_again(etcd: EmbeddedEtcd, namespace: str) -> None:
    feed = Feed(Etcd([etcd.endpoint]), Keys(namespace))
    readers = [Reader(feed, job) for job in ("a", "b", "b")]
    await asyncio.sleep(0)
    for reader in readers:
        reader.has_enough = True
    feed.wake()
    for reader in readers:
        await reader.waiting


async def test_event_loop_turns_while_a_large_listing_is_decoded_and_applied(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(namespace)
    since_turn = {"decoded": 0, "applied": 0}
    most = dict(since_turn)
    collecting: list[bool] = []

    def count(what: str) -> None:
        since_turn[what] += 1
        most[what] = max(most[what], since_turn[what])

    def counting_decode(kind: Kind, kv: KeyValue) -> Stored[Any]:
        count("decoded")
        collecting.append(gc.isenabled())
        return decode(kind, kv)

    class CountingView(View):
        def set(self, *arguments: Any) -> None:
            count("applied")
            super().set(*arguments)

    async def turn() -> None:
        while True:
            since_turn.update(decoded=0, applied=0)
            await asyncio.sleep(0)

    monkeypatch.setattr(feed_module, "decode", counting_decode)
    monkeypatch.setattr(feed_module, "View", CountingView)
    async with Etcd([etcd.endpoint]) as client:
        for start in range(0, RECORDS, 100):
            puts = [
                Put(keys.progress("j", f"r{number}", 1), Progress(done=number, total=9).to_bytes())
                for number in range(start, start + 100)
            ]
            await client.txn((), puts)
        turning = asyncio.create_task(turn())
        async with running(Feed(client, keys)) as feed:
            view = await feed.until(lambda view: view.revision > 0)
        turning.cancel()
    assert len(view.records[Kind.PROGRESS]) == RECORDS
    assert max(most.values()) <= RECORDS // 5
    assert (any(collecting), gc.isenabled()) == (False, True), "the garbage collector ran, or is off for good"
