"""Queues while etcd, the network or a consumer fails."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.etcd.stream import until_event
from leaderjob.recipes import ClaimLost, Queue, Session
from leaderjob.recipes import queue as queue_module
from tests.faults.harness import lines_to, members
from tests.support.candidates import SHORT, TIMING
from tests.support.commands import Lines
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl
from tests.support.queues import Counter


@asynccontextmanager
async def consumer(endpoints: Sequence[str], *, short: bool = False) -> AsyncIterator[tuple[Queue, Session]]:
    timing = SHORT if short else TIMING
    async with Etcd(endpoints, call_timeout_s=0.5) as client, await Session.open(client, timing) as session:
        yield Queue(session, "q"), session


async def block(queue: Queue, begun: asyncio.Event) -> float:
    """Have an item until it is lost; returns the boot time at which the block was cancelled."""
    ended_at = 0.0
    with pytest.raises(ClaimLost):
        async with queue.claim():
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended_at = boottime()
    return ended_at


async def test_each_item_comes_once_and_in_order_when_the_member_that_all_talk_to_is_killed(
    tmp_path: Path,
) -> None:
    async with members(tmp_path) as etcd:
        first = (await etcd.followers())[0]
        endpoints = etcd.endpoints_from(first)
        async with consumer(endpoints) as (producer, _), consumer(endpoints) as (worker, _):
            had: list[bytes] = []
            half = asyncio.Event()

            async def put_all() -> None:
                for number in range(60):
                    await producer.put(b"%d" % number)

            async def have_all() -> None:
                while len(had) < 60:
                    async with worker.claim() as item:
                        assert item.tries == 1
                        had.append(item.value)
                    if len(had) == 20:
                        half.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(put_all())
                group.create_task(have_all())
                await half.wait()
                first.kill()
            assert [int(value) for value in had] == list(range(60))
            assert await worker.length() == 0


@pytest.mark.slow
async def test_a_consumer_that_is_cut_off_stops_before_another_one_has_its_item(tmp_path: Path) -> None:
    async with (
        members(tmp_path) as etcd,
        lines_to(etcd.every) as lines,
        consumer(lines.endpoints, short=True) as (cut_off, _),
        consumer(etcd.endpoints) as (other, _),
    ):
        await other.put(b"a")
        begun = asyncio.Event()
        losing = asyncio.create_task(block(cut_off, begun))
        await begun.wait()
        lines.cut()
        item = await other.claim()
        claimed_at = boottime()
        assert await losing < claimed_at
        assert item.tries == 2
        lines.heal()
        await item.ack()
        assert await other.length() == 0


@pytest.mark.slow
async def test_without_a_quorum_a_block_is_cancelled_and_its_item_comes_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with (
        members(tmp_path) as etcd,
        consumer(etcd.endpoints, short=True) as (queue, session),
        consumer(etcd.endpoints) as (other, _),
    ):
        await other.put(b"a")
        await other.put(b"b")
        begun = asyncio.Event()
        losing = asyncio.create_task(block(queue, begun))
        await begun.wait()
        for member in await etcd.followers():
            member.stop()
        await losing
        assert session.is_lost, "it is not known whether the item was given back"
        await etcd.mend()
        again = await other.claim()
        while again.value == b"b":  # the lease of the first may live a little longer than the outage
            await again.nack()
            again = await other.claim()
        assert again.tries == 2


@pytest.mark.timeout_s(8)  # less than after which it looks again anyway
async def test_who_waits_hears_of_an_item_whose_news_etcd_has_compacted(
    own_etcd: EmbeddedEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = asyncio.Event()

    def telling(*arguments: Any, **options: Any) -> Awaitable[None]:
        watches.set()  # so it knows from which revision on
        return until_event(*arguments, **options)

    monkeypatch.setattr(queue_module, "until_event", telling)
    async with (
        Cuttable(own_etcd.endpoint) as proxy,
        consumer([proxy.endpoint]) as (waiting, _),
        consumer([own_etcd.endpoint]) as (producer, _),
        Etcd([own_etcd.endpoint]) as operator,
    ):
        getting = asyncio.create_task(waiting.get())
        await watches.wait()
        proxy.cut()
        item_id = await producer.put(b"a")
        revision = await operator.put("later", b"")
        await asyncio.to_thread(etcdctl, own_etcd.endpoint, "compact", str(revision))
        proxy.reset()
        proxy.heal()
        assert (await getting).id == item_id


@pytest.mark.slow
async def test_what_a_stopped_consumer_runs_is_killed_before_another_one_has_its_item(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Counter(etcd.endpoint, namespace).consumer() as queue:
        await queue.put(b"a")
        place = ["--etcd", etcd.endpoint, "--namespace", namespace, "q"]
        command = [sys.executable, "-m", "leaderjob", "queue", "pop", *place, "--"]
        with Lines(*command, "sh", "-c", "echo $$; exec sleep 600") as stopped:
            pid = int(await asyncio.to_thread(stopped.until, str.isdigit))
            os.kill(stopped.pid, signal.SIGSTOP)
            item = await queue.claim()
            assert item.tries == 2
            assert not Path(f"/proc/{pid}").exists()
            os.kill(stopped.pid, signal.SIGCONT)
            assert await asyncio.to_thread(stopped.wait, 20) != 0
            await item.ack()
        assert await queue.length() == 0
