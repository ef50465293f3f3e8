"""Barriers, progress and topics while etcd is full, and when it forgets what was."""

import asyncio
from contextlib import aclosing

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, NoSpace
from leaderjob.recipes import Barrier, BarrierClosed, Message, Progress, ProgressState, Session, Topic
from leaderjob.telemetry.events import Events
from tests.support.candidates import TIMING
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl, every_release
from tests.support.full_etcd import fill, make_room
from tests.support.hearing import hearing
from tests.support.stage import in_use_by
from tests.support.unanswered import Unanswered


@every_release("small_etcd")
async def test_a_full_store_takes_no_condition_and_a_wait_goes_on_when_there_is_room(
    small_etcd: EmbeddedEtcd,
) -> None:
    async with Etcd([small_etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        barrier, other = Barrier(client, "release"), Barrier(client, "other")
        await barrier.set("database", "old")
        await barrier.set("worker", session=session)
        await other.set("a")
        waiting = asyncio.create_task(barrier.wait({"database": "migrated"}))
        filled_at = await fill(client)
        with pytest.raises(NoSpace):
            await barrier.set("database", "migrated")
        with pytest.raises(NoSpace):
            await barrier.unset("database")
        assert await barrier.conditions() == {"database": "old", "worker": ""}
        await barrier.wait({"database": "old"}, wait_s=0)
        # What deletes is taken: leases end, and whole barriers go.
        await client.revoke(session.lease_id)
        with pytest.raises(BarrierClosed, match="worker"):
            await barrier.wait({"worker": None}, wait_s=0)
        await other.remove()
        assert await other.conditions() == {}
        assert not waiting.done()
        make_room(small_etcd, filled_at)
        revision = await barrier.set("database", "migrated")
        assert await waiting == revision


@every_release("small_etcd")
async def test_what_a_reporter_says_to_a_full_store_is_told_when_there_is_room(
    small_etcd: EmbeddedEtcd,
) -> None:
    async with Etcd([small_etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        progress = Progress(client, "import")
        async with progress.reporting(session) as reporter, aclosing(progress.watch()) as reports:
            assert (await anext(reports)).percent == 0
            filled_at = await fill(client)
            with pytest.raises(NoSpace):
                await Progress(client, "another").set(3)
            with hearing() as heard:
                reporter.set(40)
                reason = (await heard.until(Events.CONNECTION_TROUBLE))["reason"]
                assert isinstance(reason, NoSpace)
                await asyncio.sleep(0.5)  # several tries
                assert len(heard.all(Events.CONNECTION_TROUBLE)) == 1
            make_room(small_etcd, filled_at)
            assert (await anext(reports)).percent == 40
        found = await progress.latest()
        assert found is not None
        assert (found.percent, found.state) == (40, ProgressState.ENDED)


@every_release("small_etcd")
async def test_an_end_that_a_full_store_does_not_take_is_told_as_lost(small_etcd: EmbeddedEtcd) -> None:
    async with Etcd([small_etcd.endpoint]) as client:
        progress = Progress(client, "import")
        async with aclosing(progress.watch()) as reports:
            async with await Session.open(client, TIMING) as session:
                with pytest.raises(NoSpace):
                    async with progress.reporting(session):
                        assert (await anext(reports)).state is ProgressState.RUNNING
                        await fill(client)
                assert session.is_lost
            async with asyncio.timeout(5):  # long before the lease would have run out
                assert (await anext(reports)).state is ProgressState.LOST


@every_release("small_etcd")
async def test_a_full_store_takes_no_message_and_is_read_on(small_etcd: EmbeddedEtcd) -> None:
    async with Etcd([small_etcd.endpoint]) as client:
        topic = Topic(client, "news")
        await topic.publish(b"before")
        filled_at = await fill(client)
        with pytest.raises(NoSpace):
            await topic.publish(b"refused")
        async with aclosing(topic.subscribe(since=0)) as messages:
            first = await anext(messages)
            make_room(small_etcd, filled_at)
            await topic.publish(b"after")
            second = await anext(messages)
        assert isinstance(first, Message)
        assert isinstance(second, Message)
        assert (first.value, second.value) == (b"before", b"after")


@pytest.mark.parametrize("fate", ["took the last room", "found no room"])
async def test_what_took_the_last_room_is_known_though_it_was_told_to_have_found_none(
    etcd: EmbeddedEtcd, namespace: str, fate: str
) -> None:
    async with Unanswered([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        barrier = Barrier(client, "b", namespace=namespace)
        progress, reported = (Progress(client, name, namespace=namespace) for name in ("p", "r"))

        async def report() -> None:
            async with reported.reporting(session):
                pass

        for write in (lambda: barrier.set("a"), lambda: progress.set(3), report):
            client.fates = [fate]  # type: ignore[list-item]
            if fate == "took the last room":
                await write()
            else:
                with pytest.raises(NoSpace):
                    await write()
        done = fate == "took the last room"
        assert await barrier.conditions() == ({"a": ""} if done else {})
        assert (await progress.latest() is not None) is done
        ended = await reported.latest()
        assert (ended.state if ended else None) == (ProgressState.ENDED if done else None)
        session.check()


async def test_after_a_compaction_the_present_counts_for_a_barrier_and_the_last_report_is_told(
    own_etcd: EmbeddedEtcd,
) -> None:
    async with (
        Cuttable(own_etcd.endpoint) as proxy,
        Etcd([own_etcd.endpoint]) as client,
        Etcd([proxy.endpoint]) as behind,
    ):
        barrier, progress = Barrier(client, "release"), Progress(client, "import")
        await barrier.set("a")
        await progress.set(1)
        passed = asyncio.create_task(Barrier(behind, "release").wait({"a": None, "b": None}))
        present = asyncio.create_task(Barrier(behind, "release").wait({"c": None}))
        async with aclosing(Progress(behind, "import").watch()) as reports:
            assert (await anext(reports)).percent == 1
            while (await asyncio.to_thread(in_use_by, own_etcd))["watches"] < 2:
                await asyncio.sleep(0.01)
            await proxy.refuse()
            await barrier.set("b")  # for a moment that nobody can tell of any more, both hold
            await barrier.unset("a")
            for percent in (2, 3, 100):
                await progress.set(percent)
            newest = await barrier.set("c")
            await asyncio.to_thread(etcdctl, own_etcd.endpoint, "compact", str(newest))
            await proxy.accept()
            assert [report.percent async for report in reports] == [100]
        assert await present >= newest
        assert not passed.done()
        both = await barrier.set("a")
        assert await passed == both
