"""Barriers against a real etcd: they open when all conditions hold at one revision, and not otherwise."""

import asyncio

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, NotFound, SettingsError
from leaderjob.etcd import (
    AmbiguousWrite,
    Delete,
    Etcd,
    EtcdUnavailable,
    NoSpace,
    Put,
    TxnResult,
    ValueTooLarge,
)
from leaderjob.recipes import Barrier, BarrierClosed, Session, SessionLost
from leaderjob.recipes.record import encode
from tests.support.candidates import TIMING
from tests.support.commands import said
from tests.support.cuttable import Cuttable
from tests.support.unanswered import Fate, Unanswered

READY = encode(value="ready")


async def test_it_opens_when_the_last_condition_is_set(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        barrier = Barrier(client, "release", namespace=namespace)
        waiting = asyncio.create_task(barrier.wait({"db": "migrated", "cache": None}))
        await barrier.set("db", "old")
        await barrier.set("cache")
        last = await barrier.set("db", "migrated")
        assert await waiting == last
        assert await barrier.wait({"cache": "", "db": None}, wait_s=0) >= last
        assert await barrier.conditions() == {"db": "migrated", "cache": ""}


async def test_conditions_that_held_one_after_the_other_do_not_open_it(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    """Also where one goes and the other comes in the same revision, and where a watch brings all in one batch."""

    async with (
        Cuttable(etcd.endpoint) as proxy,
        Etcd([etcd.endpoint]) as client,
        Etcd([proxy.endpoint]) as slow,
    ):
        barrier = Barrier(client, "shift", namespace=namespace)
        root = f"/leaderjob/{namespace}/barriers/shift/"
        waiting = asyncio.create_task(
            Barrier(slow, "shift", namespace=namespace).wait({"day": None, "night": None})
        )
        await proxy.accepted(1)
        await asyncio.wait([waiting], timeout=0.2)
        proxy.cut()
        for _ in range(5):
            await barrier.set("day")
            await client.txn((), [Put(f"{root}night", READY), Delete(f"{root}day")])
            await barrier.unset("night")
        proxy.heal()
        await barrier.set("night", "done")
        with pytest.raises(BarrierClosed, match="day"):
            await barrier.wait({"day": None, "night": "done"}, wait_s=0.3)
        assert not waiting.done()
        last = await barrier.set("day")
        assert await waiting == last


async def test_what_held_for_one_revision_only_opens_it_for_who_waited(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        Etcd([etcd.endpoint]) as client,
        Etcd([proxy.endpoint]) as slow,
    ):
        barrier = Barrier(client, "short", namespace=namespace)
        await barrier.set("a")
        waiting = asyncio.create_task(
            Barrier(slow, "short", namespace=namespace).wait({"a": None, "b": None})
        )
        await asyncio.wait([waiting], timeout=0.3)
        proxy.cut()
        both = await barrier.set("b")
        await barrier.unset("a")
        proxy.heal()
        assert await waiting == both


async def test_a_condition_on_a_session_is_gone_with_it(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        barrier = Barrier(client, "up", namespace=namespace)
        async with await Session.open(client, TIMING) as session:
            await barrier.set("worker", "1", session=session)
            await barrier.wait({"worker": "1"}, wait_s=0)
            await client.revoke(session.lease_id)
            assert await barrier.conditions() == {}
            with pytest.raises(SessionLost):
                await barrier.set("worker", "2", session=session)
            assert session.is_lost
            with pytest.raises(SessionLost):
                await barrier.set("worker", "2", session=session)


async def test_a_barrier_that_stays_shut_names_what_is_missing(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        barrier = Barrier(client, "shut", namespace=namespace)
        await barrier.set("a", "1")
        for wait_s in (0, 0.1):
            with pytest.raises(BarrierClosed, match=r"shut.*a=2, b did not hold") as told:
                await barrier.wait({"a": "2", "b": None}, wait_s=wait_s)
            assert told.value.missing == ("a=2", "b")


@pytest.mark.parametrize("fate", ["done", "later"])
async def test_a_write_without_an_answer_is_done_once(etcd: EmbeddedEtcd, namespace: str, fate: Fate) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        barrier = Barrier(client, "lost", namespace=namespace)
        client.fates = [fate, fate]
        revision = await barrier.set("a", "1")
        kv = await client.get(f"/leaderjob/{namespace}/barriers/lost/a")
        assert kv is not None
        assert (kv.version, kv.mod_revision) == (1, revision)
        client.fates = [fate]
        await barrier.unset("a")
        assert await barrier.conditions() == {}


async def test_a_late_write_does_not_bring_back_what_was_unset(etcd: EmbeddedEtcd, namespace: str) -> None:
    """A try that got no answer is done long after another one was, and after the condition was unset."""

    async with Unanswered([etcd.endpoint]) as client:
        barrier = Barrier(client, "late", namespace=namespace)
        client.fates = ["later"]
        await barrier.set("a")
        await barrier.unset("a")
        assert await client.deliver_late() == [False]
        assert await barrier.conditions() == {}


async def test_who_cannot_tell_whether_it_was_done_before_others_wrote_says_so(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        barrier = Barrier(client, "crowd", namespace=namespace)
        await barrier.set("a")
        last_write = f"/leaderjob/{namespace}/barriers/crowd/.last-write"

        async def another_writes() -> None:
            await client.put(last_write, encode(by="another"))

        client.fates, client.meanwhile = ["done"], another_writes
        await barrier.set("b")  # its condition is there, so it was done
        client.fates, client.meanwhile = ["never"], another_writes
        await barrier.set("c")  # one other write alone: it was not done, so it is done now
        assert set(await barrier.conditions()) == {"a", "b", "c"}
        client.fates, client.meanwhile = ["done"], another_writes
        with pytest.raises(AmbiguousWrite):
            await barrier.unset("a")


async def test_foreign_values_do_not_hold_and_are_left_alone(
    etcd: EmbeddedEtcd, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        barrier = Barrier(client, "foreign", namespace=namespace)
        root = f"/leaderjob/{namespace}/barriers/foreign/"
        for number, value in enumerate((b"yes", b"\xff", b"[1]", b'{"v": 1}', b'{"v": 2, "value": "x"}')):
            await client.put(f"{root}c{number}", value)
            with pytest.raises(BarrierClosed):
                await barrier.wait({f"c{number}": None}, wait_s=0)
        await client.put(f"{root}Not a name/", b"yes")
        assert await barrier.conditions() == {}
        assert len((await client.range(root)).kvs) == 6
        await barrier.set("c0", "yes")
        await barrier.wait({"c0": "yes"}, wait_s=0)
    assert [record.message for record in caplog.records].count("record_quarantined") >= 5


async def test_bad_input_is_refused_before_anything_is_written(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        for name in ("", "a/b", "Upper", "-"):
            with pytest.raises(InvalidName):
                Barrier(client, name, namespace=namespace)
        barrier = Barrier(client, "odd", namespace=namespace)
        for condition in ("", "a/b", ".last-write"):
            with pytest.raises(InvalidName):
                await barrier.set(condition)
            with pytest.raises(InvalidName):
                await barrier.unset(condition)
            with pytest.raises(InvalidName):
                await barrier.wait({condition: None})
        with pytest.raises(SettingsError, match="nothing to wait for"):
            await barrier.wait({})
        with pytest.raises(SettingsError, match="not negative"):
            await barrier.wait({"a": None}, wait_s=-1)
        with pytest.raises(ValueTooLarge, match="1500000"):
            await barrier.set("a", "x" * 2_000_000)
        with pytest.raises(NotFound, match="not set"):
            await barrier.unset("a")
        assert not (await client.range(f"/leaderjob/{namespace}/")).kvs


async def test_what_etcd_refuses_at_once_is_raised_at_once(etcd: EmbeddedEtcd, namespace: str) -> None:
    class Full(Etcd):
        async def txn(self, *_: object, **__: object) -> TxnResult:
            raise NoSpace

    async with Full([etcd.endpoint]) as client:
        with pytest.raises(NoSpace):
            await Barrier(client, "full", namespace=namespace).set("a")
    async with Etcd(["127.0.0.1:1"]) as nobody:
        with pytest.raises(EtcdUnavailable):
            await Barrier(nobody, "away", namespace=namespace).wait({"a": None})


async def test_a_barrier_that_is_removed_leaves_no_key_and_can_be_used_again(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        barrier = Barrier(client, "old", namespace=namespace)
        neighbour = Barrier(client, "old2", namespace=namespace)
        await neighbour.set("a")
        await barrier.set("a")
        await barrier.set("b")
        await barrier.remove()
        assert not (await client.range(f"/leaderjob/{namespace}/barriers/old/")).kvs
        with pytest.raises(NotFound, match="nothing to remove"):
            await barrier.remove()
        await barrier.set("a", "again")
        assert await barrier.conditions() == {"a": "again"}
        assert await neighbour.conditions() == {"a": ""}


async def test_a_wait_that_is_cancelled_leaves_no_task(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        before = asyncio.all_tasks()
        waiting = asyncio.create_task(Barrier(client, "never", namespace=namespace).wait({"a": None}))
        await asyncio.wait([waiting], timeout=0.2)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        left = asyncio.all_tasks() - before
        assert not [task for task in left if "_AioCall" not in repr(task)]


def test_the_command_sets_waits_and_unsets(etcd: EmbeddedEtcd, namespace: str) -> None:
    def barrier(*arguments: str) -> tuple[int, str]:
        ended = said(
            ["barrier", arguments[0], "--etcd", etcd.endpoint, "--namespace", namespace, *arguments[1:]]
        )
        return ended.returncode, ended.stdout + ended.stderr

    assert barrier("wait", "go", "db=up", "--wait", "0")[0] == 4
    assert barrier("set", "go", "db=up")[0] == 0
    assert barrier("set", "go", "cache")[0] == 0
    assert barrier("wait", "go", "db=up", "cache", "--wait", "10s")[0] == 0
    code, text = barrier("wait", "go", "db=down", "--wait", "50ms")
    assert (code, "db=down did not hold" in text) == (4, True)
    assert barrier("unset", "go", "db")[0] == 0
    assert barrier("unset", "go", "db")[0] == 4
    assert barrier("remove", "go")[0] == 0
    assert barrier("remove", "go")[0] == 4
    assert barrier("wait", "go", "cache", "--wait", "0")[0] == 4
    assert barrier("set", "go", "A b")[0] == 2
    assert barrier("wait", "go")[0] == 2
    assert barrier("wait", "go", "a", "--wait", "soon")[0] == 2
