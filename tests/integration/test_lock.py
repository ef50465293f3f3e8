"""Locks on a real etcd: one holder at a time, in the order of arrival, with a token that grows."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, SettingsError
from leaderjob.etcd import Etcd, Put
from leaderjob.recipes import (
    AlreadyHeld,
    HoldLost,
    Lock,
    NotAcquired,
    NotHeld,
    ReadWriteLock,
    Semaphore,
    Session,
    SessionLost,
)
from tests.support.etcd import every_release, program
from tests.support.locks import TIMING, keys_below, session_on, until_standing, waiting


async def test_who_comes_first_holds_it_first_and_tokens_grow(etcd: EmbeddedEtcd, namespace: str) -> None:
    prefix = f"/leaderjob/{namespace}/locks/x/"

    tokens = []
    async with (
        session_on(etcd.endpoint) as one,
        session_on(etcd.endpoint) as two,
        session_on(etcd.endpoint) as three,
    ):
        locks = [Lock(session, "x", namespace=namespace) for session in (one, two, three)]
        held = await locks[0].acquire()
        async with waiting(locks[1].acquire()) as second:
            await until_standing(etcd.endpoint, prefix, 2)
            async with waiting(locks[2].acquire()) as third:
                await until_standing(etcd.endpoint, prefix, 3)
                for lock, turn in zip(locks, [None, second, third], strict=True):
                    if turn is not None:
                        held = await turn  # type: ignore[assignment]
                        assert turn is third or not third.done()
                    tokens.append(held.token)
                    await lock.release(held)
    assert tokens == sorted(set(tokens))
    assert await keys_below(etcd.endpoint, namespace) == []


async def test_a_handover_wakes_one_waiter(etcd: EmbeddedEtcd, namespace: str) -> None:
    class Counting(Etcd):
        looks = 0

        async def txn(self, *args: object, **options: object) -> object:  # type: ignore[override]
            self.looks += 1
            return await super().txn(*args, **options)  # type: ignore[arg-type]

    prefix = f"/leaderjob/{namespace}/locks/x/"
    async with (
        session_on(etcd.endpoint) as one,
        session_on(etcd.endpoint) as two,
        Counting([etcd.endpoint]) as client,
        await Session.open(client, TIMING) as last,
    ):
        first = Lock(one, "x", namespace=namespace)
        held = await first.acquire()
        async with waiting(Lock(two, "x", namespace=namespace).acquire()) as second:
            await until_standing(etcd.endpoint, prefix, 2)
            async with waiting(Lock(last, "x", namespace=namespace).acquire()):
                await until_standing(etcd.endpoint, prefix, 3)
                await first.release(held)
                await second
                await until_standing(etcd.endpoint, prefix, 2)
                assert client.looks == 1


async def test_only_trying_does_not_wait_and_leaves_nothing(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with session_on(etcd.endpoint) as one, session_on(etcd.endpoint) as two:
        async with Lock(one, "x", namespace=namespace) as held:
            mine = Lock(two, "x", namespace=namespace)
            for wait_s in (0, 0.2):
                with pytest.raises(NotAcquired):
                    await mine.acquire(wait_s=wait_s)
                assert [kv.key for kv in await keys_below(etcd.endpoint, namespace)] == [held.key]
                two.check()
        async with mine.holding(wait_s=0) as second:
            assert second.token > held.token


async def test_what_a_session_holds_or_awaits_it_cannot_take_again(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with session_on(etcd.endpoint) as one, session_on(etcd.endpoint) as two:
        async with Lock(one, "x", namespace=namespace):
            with pytest.raises(AlreadyHeld):
                await Lock(one, "x", namespace=namespace).acquire(wait_s=0)
            async with waiting(Lock(two, "x", namespace=namespace).acquire()):
                await until_standing(etcd.endpoint, f"/leaderjob/{namespace}/locks/x/", 2)
                with pytest.raises(AlreadyHeld):
                    await Lock(two, "x", namespace=namespace).acquire()
        rates = ReadWriteLock(one, "x", namespace=namespace)
        async with rates.reading():
            with pytest.raises(AlreadyHeld):
                await rates.writing().acquire()


async def test_it_is_released_once_and_by_its_holder_only(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with session_on(etcd.endpoint) as one, session_on(etcd.endpoint) as two:
        mine, others = Lock(one, "x", namespace=namespace), Lock(two, "x", namespace=namespace)
        held = await mine.acquire()
        with pytest.raises(NotHeld):
            await others.release(held)
        with pytest.raises(NotHeld):
            await Lock(one, "y", namespace=namespace).release(held)
        held.check()
        await mine.release(held)
        with pytest.raises(NotHeld):
            await mine.release(held)
        with pytest.raises(HoldLost, match="released"):
            held.check()
        again = await others.acquire()
        with pytest.raises(NotHeld):
            await mine.release(held)
        again.check()


async def test_a_write_under_the_fence_of_an_older_holder_does_nothing(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with session_on(etcd.endpoint) as one, session_on(etcd.endpoint) as two:
        lock = Lock(one, "x", namespace=namespace)
        old = await lock.acquire()
        assert (await one.etcd.txn([old.fence], [Put(f"/{namespace}", b"old")])).succeeded
        await one.etcd.delete(old.key)
        async with Lock(two, "x", namespace=namespace) as new:
            assert not (await one.etcd.txn([old.fence], [Put(f"/{namespace}", b"old")])).succeeded
            assert (await two.etcd.txn([new.fence], [Put(f"/{namespace}", b"new")])).succeeded


@pytest.mark.parametrize("how", ["key deleted", "lease revoked"])
@pytest.mark.timeout_s(10)
async def test_what_is_done_under_a_lock_that_is_lost_is_cancelled(
    etcd: EmbeddedEtcd, namespace: str, how: str
) -> None:
    cancelled = False
    async with session_on(etcd.endpoint) as session:
        lock = Lock(session, "x", namespace=namespace)
        with pytest.raises(HoldLost):
            async with lock as held:
                if how == "key deleted":
                    await session.etcd.delete(held.key)
                else:
                    await session.etcd.revoke(session.lease_id)
                session.renew_now()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled = True
                    raise
        assert cancelled
        if how == "key deleted":
            async with lock:
                pass
        else:
            with pytest.raises(SessionLost):
                await lock.acquire()


@pytest.mark.parametrize("how", ["key deleted", "lease revoked", "session closed"])
@pytest.mark.timeout_s(10)
async def test_who_waits_is_told_that_its_place_is_lost(etcd: EmbeddedEtcd, namespace: str, how: str) -> None:
    prefix = f"/leaderjob/{namespace}/locks/x/"
    async with (
        session_on(etcd.endpoint) as one,
        session_on(etcd.endpoint) as two,
        Lock(one, "x", namespace=namespace),
    ):
        async with waiting(Lock(two, "x", namespace=namespace).acquire()) as second:
            await until_standing(etcd.endpoint, prefix, 2)
            if how == "key deleted":
                await one.etcd.delete(f"{prefix}{two.lease_id:x}")
            elif how == "lease revoked":
                await one.etcd.revoke(two.lease_id)
            else:
                await two.close()
            with pytest.raises((HoldLost, SessionLost)):
                await second
        assert len(await keys_below(etcd.endpoint, namespace)) == 1


async def test_a_lease_that_is_gone_is_told_as_a_lost_session(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with session_on(etcd.endpoint) as session:
        await session.etcd.revoke(session.lease_id)
        with pytest.raises(SessionLost):
            await Lock(session, "x", namespace=namespace).acquire()


async def test_a_key_without_a_lease_blocks_and_is_told_of_and_left_alone(
    etcd: EmbeddedEtcd, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"/leaderjob/{namespace}/locks/x/by-hand"
    async with session_on(etcd.endpoint) as session:
        await session.etcd.put(key, b"not ours")
        with pytest.raises(NotAcquired):
            await Lock(session, "x", namespace=namespace).acquire(wait_s=0.3)
        assert [kv.key for kv in await keys_below(etcd.endpoint, namespace)] == [key]
        assert any(getattr(record, "event", "") == "lock_blocked" for record in caplog.records)


async def test_bad_names_and_numbers_are_refused_before_etcd_is_asked(etcd: EmbeddedEtcd) -> None:
    async with session_on(etcd.endpoint) as session:
        for name in ("", "a/b", "UPPER", ".."):
            for make in (Lock, ReadWriteLock):
                with pytest.raises(InvalidName):
                    make(session, name)
            with pytest.raises(InvalidName):
                Lock(session, "x", namespace=name)
        for permits in (0, -1):
            with pytest.raises(SettingsError):
                Semaphore(session, "x", permits)
        with pytest.raises(SettingsError):
            await Lock(session, "x").acquire(wait_s=-1)


# A number of turns of the event loop lies between two awaits, or a part of a round trip.
@pytest.mark.parametrize("contended", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("lock", marks=pytest.mark.slow),
        "semaphore",
        pytest.param("writer", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout_s(30)
async def test_cancelled_anywhere_it_leaves_no_key_and_no_task(
    etcd: EmbeddedEtcd, namespace: str, kind: str, contended: bool
) -> None:
    async with session_on(etcd.endpoint) as one, session_on(etcd.endpoint) as two:

        def lock(session: Session) -> Lock | Semaphore | object:
            if kind == "lock":
                return Lock(session, "x", namespace=namespace)
            if kind == "semaphore":
                return Semaphore(session, "x", 1, namespace=namespace)
            return ReadWriteLock(session, "x", namespace=namespace).writing()

        async def use() -> None:
            async with lock(two):  # type: ignore[attr-defined]
                await asyncio.sleep(0)

        if contended:
            await lock(one).acquire()  # type: ignore[attr-defined]
        tasks = asyncio.all_tasks()
        for pause_s in [0.0] * 4 + [0.0003 * n for n in range(1, 30)]:
            using = asyncio.create_task(use())
            await asyncio.sleep(pause_s)
            using.cancel()
            await asyncio.wait([using])
            two.check()
            keys = [kv.key for kv in await keys_below(etcd.endpoint, namespace) if kv.lease]
            assert len(keys) == contended, pause_s
        while left := {t for t in asyncio.all_tasks() - tasks if "_AioCall" not in repr(t)}:
            await asyncio.wait(left, timeout=1)
            assert not {t for t in left if not t.done()}


async def test_readers_share_it_and_a_writer_is_alone(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        session_on(etcd.endpoint) as one,
        session_on(etcd.endpoint) as two,
        session_on(etcd.endpoint) as three,
    ):
        locks = [ReadWriteLock(session, "x", namespace=namespace) for session in (one, two, three)]
        async with locks[0].reading(), locks[1].reading():
            with pytest.raises(NotAcquired):
                await locks[2].writing().acquire(wait_s=0)
        async with locks[2].writing():
            for other in (locks[0].reading(), locks[0].writing()):
                with pytest.raises(NotAcquired):
                    await other.acquire(wait_s=0)


async def test_a_reader_who_comes_after_a_waiting_writer_waits_for_it(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    prefix = f"/leaderjob/{namespace}/rwlocks/x/"
    async with (
        session_on(etcd.endpoint) as one,
        session_on(etcd.endpoint) as two,
        session_on(etcd.endpoint) as three,
    ):
        first, second, third = (ReadWriteLock(s, "x", namespace=namespace) for s in (one, two, three))
        async with first.reading(), waiting(second.writing().acquire()) as writing:
            await until_standing(etcd.endpoint, prefix, 2)
            with pytest.raises(NotAcquired):
                await third.reading().acquire(wait_s=0)
            assert not writing.done()


@contextmanager
def etcdctl_lock(endpoint: str, namespace: str) -> Iterator[str]:
    """``etcdctl lock`` holds it inside; what comes out is the key that it says it holds."""
    command = [str(program("etcdctl")), f"--endpoints={endpoint}", "lock", f"/leaderjob/{namespace}/locks/x"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"ETCDCTL_API": "3"}) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()
        process.wait(timeout=10)


@every_release("etcd")
async def test_etcdctl_and_we_take_turns(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with session_on(etcd.endpoint) as session:
        lock = Lock(session, "x", namespace=namespace)
        prefix = f"/leaderjob/{namespace}/locks/x/"
        with etcdctl_lock(etcd.endpoint, namespace) as theirs:
            with pytest.raises(NotAcquired):
                await lock.acquire(wait_s=0)
            turn = asyncio.create_task(lock.acquire())
            await until_standing(etcd.endpoint, prefix, 2)
            assert not turn.done()
        held = await turn
        assert theirs.startswith(prefix)
        ahead = asyncio.to_thread(_key_of_etcdctl, etcd.endpoint, namespace)
        waits = asyncio.create_task(ahead)
        await until_standing(etcd.endpoint, prefix, 2)
        assert not waits.done()
        held.check()
        await lock.release(held)
        assert (await waits).startswith(prefix)


def _key_of_etcdctl(endpoint: str, namespace: str) -> str:
    with etcdctl_lock(endpoint, namespace) as key:
        return key
