"""The claim: one write by which a candidate comes to office, also over a dead leader."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import KeyValue, LeaseNotFound, NoSpace, TxnResult
from leaderjob.etcd.stream import stream
from tests.support.candidates import SHORT, Place, campaigning
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl


@pytest.fixture
def place(etcd: EmbeddedEtcd, namespace: str) -> Place:
    return Place(etcd.endpoint, namespace)


async def seen_gone(predecessor: KeyValue) -> str:
    return "it was seen to be gone"


async def never() -> str:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@pytest.mark.timeout_s(30)
async def test_a_verdict_deletes_the_predecessors_key_and_ends_its_lease(place: Place) -> None:
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, client),
    ):
        deposed = await first.campaign(session_1, b"one")
        told = asyncio.Queue[KeyValue]()

        async def witness(predecessor: KeyValue) -> str:
            told.put_nowait(predecessor)
            return "it was seen to be gone"

        await second.campaign(session_2, b"two", witness=witness)
        assert told.get_nowait().value == b"one"
        assert await client.get(deposed.term.key) is None
        session_1.renew_now()
        await session_1.wait_lost()
        await deposed.wait_ended()
        with pytest.raises(LeaseNotFound):
            await client.keep_alive(session_1.lease_id, timeout_s=1)


@pytest.mark.timeout_s(30)
async def test_a_claim_over_a_dead_leader_deletes_it_wins_and_proclaims_in_one_write(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    place = Place(etcd.endpoint, namespace)
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, _),
        place.outside() as client,
    ):
        deposed = await first.campaign(session_1, b"one")
        won = await second.campaign(session_2, b"two", witness=seen_gone, proclaims=lambda: b"two leads")
        (key,) = await place.until(1)
        assert (key.value, key.mod_revision) == (b"two leads", won.won_revision)
        batch = await anext(
            aiter(stream(client.connection, deposed.term.key, start_revision=won.won_revision))
        )
        assert [event.deleted for event in batch.events] == [True]
        assert batch.revision == won.won_revision


@pytest.mark.timeout_s(30)
async def test_a_verdict_on_one_in_the_middle_wins_nothing(place: Place) -> None:
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, _),
        place.candidate() as (third, session_3, _),
    ):
        leads = await first.campaign(session_1, b"one")
        async with campaigning(second, session_2, b"two"):
            await place.until(2)

            async def witness(predecessor: KeyValue) -> str:
                return await (seen_gone(predecessor) if predecessor.value == b"two" else never())

            winning = asyncio.create_task(third.campaign(session_3, b"three", witness=witness))
            await session_2.wait_lost()
            assert [key.value for key in await place.until(2)] == [b"one", b"three"]
            assert not winning.done()
            await first.resign(leads)
            assert (await winning).won_revision > leads.won_revision


@pytest.mark.timeout_s(15)
async def test_a_claim_that_won_without_an_answer_is_laid_again_and_wins(place: Place) -> None:
    async with (
        Cuttable(place.endpoint) as proxy,
        place.candidate() as (first, session_1, _),
        place.candidate(endpoint=proxy.endpoint) as (second, session_2, client),
    ):
        await first.campaign(session_1, b"one")
        gone = asyncio.Event()

        async def witness(predecessor: KeyValue) -> str:
            await gone.wait()
            return "it was seen to be gone"

        winning = asyncio.create_task(
            second.campaign(session_2, b"two", witness=witness, proclaims=lambda: b"two leads")
        )
        await place.until(2)
        await client.claimed.get()
        proxy.cut(requests=False)
        gone.set()
        while [key.value for key in await place.until(1)] != [b"two leads"]:
            pass
        proxy.reset()
        proxy.heal()
        leadership = await winning
        leadership.check()
        assert await second.proclaim(leadership, b"two leads on") > leadership.won_revision


@pytest.mark.timeout_s(30)
async def test_a_claim_that_arrives_late_does_not_overwrite_what_was_proclaimed_since(place: Place) -> None:
    async with place.candidate() as (election, session, client):
        late: list[tuple[Any, Any, Any]] = []
        txn = client.txn

        async def note(compares: Any, success: Any = (), failure: Any = (), **options: Any) -> TxnResult:
            if any(compare.prefix for compare in compares):
                late.append((compares, success, failure))
            return await txn(compares, success, failure, **options)

        client.txn = note  # type: ignore[method-assign]
        leadership = await election.campaign(session, b"", proclaims=lambda: b"leads")
        client.txn = txn  # type: ignore[method-assign]
        await election.proclaim(leadership, b"leads, and says more")
        ((compares, success, failure),) = late
        assert not (await client.txn(compares, success, failure)).succeeded
        leader = await election.leader()
        assert leader is not None
        assert leader.value == b"leads, and says more"


@pytest.mark.timeout_s(30)
async def test_a_full_etcd_costs_no_candidate_its_place(tmp_path: Path) -> None:
    """It looks again once per TTL, by a claim, which would write. Office is for nobody until there is room."""

    server = EmbeddedEtcd(tmp_path / "etcd", fsync=False, quota_bytes=2 * 1024**2)
    await server.start()
    try:
        place = Place(server.endpoint, "full")
        async with (
            place.candidate() as (first, session_1, _),
            place.candidate(timing=SHORT) as (second, session_2, _),
            place.outside() as outside,
        ):
            leads = await first.campaign(session_1, b"one")
            winning = asyncio.create_task(second.campaign(session_2, b"two", proclaims=lambda: b"two leads"))
            await place.until(2)
            with pytest.raises(NoSpace):
                for number in range(1000):
                    await outside.put(f"/filler/{number}", b"x" * 100_000)
            await asyncio.sleep(SHORT.ttl_s * 1.5)
            assert not winning.done()
            assert len(await place.until(2)) == 2
            await outside.delete("/filler/", prefix=True)
            etcdctl(server.endpoint, "compact", str((await outside.range("/filler/")).revision))
            etcdctl(server.endpoint, "defrag")
            etcdctl(server.endpoint, "alarm", "disarm")
            await first.resign(leads)
            assert (await winning).trusted
    finally:
        server.kill()
