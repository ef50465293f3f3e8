"""Barriers, topics and progress while members of etcd die, clients are cut off, and processes are killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from leaderjob.etcd import Etcd, EtcdUnavailable
from leaderjob.recipes import (
    Barrier,
    Message,
    Missed,
    Progress,
    ProgressState,
    ReporterLost,
    Session,
    Topic,
    Unsettled,
)
from tests.faults.harness import lines_to, members
from tests.faults.harness.store import compact
from tests.support.candidates import SHORT
from tests.support.commands import environment

OUTLASTING_S = 60.0

REPORTER = """
import asyncio, sys
from leaderjob.etcd import Etcd
from leaderjob.recipes import Barrier, Progress, Session, Timing

async def main():
    async with Etcd(sys.argv[1].split(",")) as etcd, await Session.open(
        etcd, Timing(ttl_s=2, margin_s=0.9, keepalive_s=0.2)
    ) as session, Progress(etcd, "import").reporting(session) as reporter:
        await Barrier(etcd, "up").set("reporter", session=session)
        reporter.set(50, "half")
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@asynccontextmanager
async def reporting_process(endpoints: list[str]) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """It reports 50 %, with a TTL of 2 s, and holds a condition of the barrier ``up``."""
    process = subprocess.Popen([sys.executable, "-c", REPORTER, ",".join(endpoints)], env=environment())
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def gather(topic: Topic, count: int, started: asyncio.Event) -> list[bytes]:
    got: list[bytes] = []
    async with aclosing(topic.subscribe(since=0)) as messages:
        async for item in messages:
            assert isinstance(item, Message)
            started.set()
            got.append(item.value)
            if len(got) == count:
                return got
    raise AssertionError("a topic does not end")


@pytest.mark.timeout_s(OUTLASTING_S)
async def test_no_message_is_lost_or_doubled_when_the_leader_of_etcd_is_killed(tmp_path: Path) -> None:
    async with members(tmp_path) as etcd, Etcd(etcd.endpoints) as client, Etcd(etcd.endpoints) as other:
        topic, started = Topic(client, "news"), asyncio.Event()
        reading = asyncio.create_task(gather(Topic(other, "news"), 200, started))
        for number in range(200):
            if number == 50:
                await started.wait()
                (await etcd.leader()).kill()
            await publish(topic, b"%d" % number)
        assert await reading == [b"%d" % number for number in range(200)]


async def publish(topic: Topic, value: bytes) -> None:
    """As a careful publisher does."""
    message_id: str | None = None
    while True:
        try:
            await topic.publish(value, message_id=message_id)
        except Unsettled as unsettled:
            message_id = unsettled.message_id
        except EtcdUnavailable:
            await asyncio.sleep(0.1)
        else:
            return


@pytest.mark.slow
@pytest.mark.timeout_s(OUTLASTING_S)
async def test_all_go_on_when_the_quorum_is_back(tmp_path: Path) -> None:
    async with members(tmp_path) as etcd, Etcd(etcd.endpoints) as client, Etcd(etcd.endpoints) as other:
        topic, progress, barrier = (
            Topic(client, "news"),
            Progress(client, "import"),
            Barrier(client, "go"),
        )
        subscription = await Topic(other, "news").subscription("mine")
        waiting = asyncio.create_task(Barrier(other, "go").wait({"a": None, "b": None}))
        async with aclosing(subscription.messages()) as messages, aclosing(progress.watch()) as reports:
            await publish(topic, b"before")
            first = await anext(messages)
            await barrier.set("a")
            await progress.set(10)
            assert (await anext(reports)).percent == 10
            for member in await etcd.followers():
                member.stop()
            publishing = asyncio.create_task(publish(topic, b"after"))
            setting = asyncio.create_task(barrier.set("b"))
            await asyncio.wait([publishing, setting], timeout=2.5)
            assert not waiting.done()
            await etcd.mend()
            await publishing
            assert await waiting == await setting
            second = await anext(messages)
            assert [item.value for item in (first, second) if isinstance(item, Message)] == [
                *(b"before", b"after")
            ]
            await subscription.handled(second)
            await progress.set(100)
            assert (await anext(reports)).state is ProgressState.ENDED
        assert len((await client.range("/leaderjob/default/topics/news/messages/")).kvs) == 2


@pytest.mark.timeout_s(OUTLASTING_S)
async def test_a_subscriber_that_was_cut_off_past_retention_and_history_is_told_what_it_missed(
    tmp_path: Path,
) -> None:
    async with (
        members(tmp_path, 1) as etcd,
        lines_to(etcd.every) as lines,
        Etcd(lines.endpoints) as cut_off,
        Etcd(etcd.endpoints) as client,
    ):
        topic = Topic(client, "news", keep_count=3)
        async with aclosing(Topic(cut_off, "news").subscribe(since=0)) as messages:
            await publish(topic, b"0")
            assert isinstance(await anext(messages), Message)
            lines.cut()
            for number in range(1, 11):
                await publish(topic, b"%d" % number)
            await topic.trim()
            await compact(etcd.every[0])
            lines.reset()
            lines.heal()
            items = [await anext(messages) for _ in range(4)]
        assert isinstance(items[0], Missed)
        assert items[0].count == 7
        assert [item.value for item in items[1:] if isinstance(item, Message)] == [b"8", b"9", b"10"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.timeout_s(OUTLASTING_S)
async def test_a_reporter_that_is_killed_or_stopped_is_told_and_its_condition_is_gone(
    tmp_path: Path, how: signal.Signals
) -> None:
    async with members(tmp_path, 1) as etcd, Etcd(etcd.endpoints) as client:
        progress, barrier = Progress(client, "import"), Barrier(client, "up")
        async with reporting_process(etcd.endpoints) as process, aclosing(progress.watch()) as reports:
            await barrier.wait({"reporter": None})
            async for report in reports:
                if report.percent == 50:
                    break
            os.kill(process.pid, how)
            report = await anext(reports)
            assert (report.percent, report.message, report.state) == (50, "half", ProgressState.LOST)
            assert await barrier.conditions() == {}


@pytest.mark.slow
@pytest.mark.timeout_s(OUTLASTING_S)
async def test_a_reporter_that_is_cut_off_past_its_ttl_is_lost_to_all_and_knows_it(tmp_path: Path) -> None:
    async with (
        members(tmp_path, 1) as etcd,
        lines_to(etcd.every) as lines,
        Etcd(lines.endpoints, call_timeout_s=0.5) as cut_off,
        Etcd(etcd.endpoints) as client,
        await Session.open(cut_off, SHORT) as session,
    ):
        progress = Progress(client, "import")
        with pytest.raises(ReporterLost, match="not reported by this any more"):
            async with Progress(cut_off, "import").reporting(session) as reporter:
                async with aclosing(progress.watch()) as reports:
                    await anext(reports)
                    lines.cut()
                    reporter.set(10)
                    states = [report.state async for report in reports]
                    assert states[-1] is ProgressState.LOST
                lines.reset()
                lines.heal()
                await session.wait_lost()
                reporter.set(20)
