"""Semaphores on a real etcd: never more than the permits, and one number for all."""

import asyncio
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import SettingsError
from leaderjob.recipes import NotAcquired, PermitsDiffer, Semaphore
from tests.support.locks import keys_below, session_on, until_standing, waiting


async def test_so_many_hold_a_permit_and_the_next_waits_for_any_of_them(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        session_on(etcd.endpoint) as one,
        session_on(etcd.endpoint) as two,
        session_on(etcd.endpoint) as three,
    ):
        pools = [Semaphore(session, "x", 2, namespace=namespace) for session in (one, two, three)]
        held = [await pool.acquire(wait_s=0) for pool in pools[:2]]
        with pytest.raises(NotAcquired):
            await pools[2].acquire(wait_s=0)
        async with waiting(pools[2].acquire()) as third:
            await until_standing(etcd.endpoint, f"/leaderjob/{namespace}/semaphores/x/holders/", 3)
            await pools[1].release(held[1])  # the later of the two
            await third
        held[0].check()


async def test_another_number_is_refused_while_somebody_stands_and_counts_once_nobody_does(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with session_on(etcd.endpoint) as one, session_on(etcd.endpoint) as two:
        held = await (of_two := Semaphore(one, "x", 2, namespace=namespace)).acquire()
        of_three = Semaphore(two, "x", 3, namespace=namespace)
        with pytest.raises(PermitsDiffer, match="to have 3 permits, and its record says 2"):
            await of_three.acquire()
        two.check()
        held.check()
        assert len(await keys_below(etcd.endpoint, namespace)) == 2
        await of_two.release(held)
        async with of_three:
            with pytest.raises(PermitsDiffer, match="says 3"):
                await of_two.acquire(wait_s=0)


@pytest.mark.parametrize("value", [b"3", b"\xff", b'{"v": 2, "permits": 3}', b'{"v": 1, "permits": true}'])
async def test_a_record_that_is_not_ours_is_told_of_and_left_alone(
    etcd: EmbeddedEtcd, namespace: str, value: bytes
) -> None:
    async with session_on(etcd.endpoint) as session:
        await session.etcd.put(f"/leaderjob/{namespace}/semaphores/x/permits", value)
        with pytest.raises(PermitsDiffer, match="no number of permits"):
            await Semaphore(session, "x", 2, namespace=namespace).acquire()
        assert [kv.value for kv in await keys_below(etcd.endpoint, namespace)] == [value]


async def test_a_record_that_was_deleted_under_its_holders_is_made_anew_once_they_are_gone(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with session_on(etcd.endpoint) as one, session_on(etcd.endpoint) as two:
        mine, others = (Semaphore(session, "x", 2, namespace=namespace) for session in (one, two))
        async with mine as held:
            await one.etcd.delete(f"/leaderjob/{namespace}/semaphores/x/permits")
            with pytest.raises(PermitsDiffer, match="its record was deleted"):
                await others.acquire()
            held.check()
        async with others:
            pass


async def test_of_many_that_begin_at_once_with_different_numbers_one_number_wins(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def contend(permits: int, stay: asyncio.Event) -> int:
        async with session_on(etcd.endpoint) as session:
            try:
                async with Semaphore(session, "x", permits, namespace=namespace).holding():
                    await stay.wait()
                    return permits
            except PermitsDiffer:
                return 0
            finally:
                stay.set()

    stay = asyncio.Event()
    contenders = [contend(permits, stay) for permits in (9, 8, 9, 8, 9, 8)]
    assert set(await asyncio.gather(*contenders)) in ({0, 8}, {0, 9})


@pytest.mark.parametrize("permits", [0, -1, 2.5, "2", True, None])
async def test_permits_that_are_no_whole_number_are_refused(
    etcd: EmbeddedEtcd, namespace: str, permits: Any
) -> None:
    async with session_on(etcd.endpoint) as session:
        with pytest.raises(SettingsError, match="a whole number, of one at least"):
            Semaphore(session, "x", permits, namespace=namespace)
