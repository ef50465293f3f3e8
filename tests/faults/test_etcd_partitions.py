"""Members and clients that the others cannot reach, both ways or one way only."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from leaderjob.clock import boottime
from leaderjob.etcd import AmbiguousWrite, Etcd
from tests.faults.harness import (
    Member,
    end_of,
    every_release,
    lines_to,
    members,
    recording,
    standing,
    trusted_after,
    writing,
)
from tests.faults.harness.members import Network
from tests.support.candidates import SHORT
from tests.support.machines import needs_machines

Fault = Callable[[Member], Awaitable[None]]
slow = pytest.mark.slow
one_way = pytest.mark.parametrize(
    ("sending", "hearing"),
    [
        pytest.param(True, False, id="what it sends is lost"),
        pytest.param(False, True, id="what it should hear is lost", marks=slow),
    ],
)


async def cut_from_its_quorum(member: Member) -> None:
    await member.link.cut(clients=False)


async def cut_from_its_clients(member: Member) -> None:
    await member.link.cut(peers=False)


async def rejected(member: Member) -> None:
    await member.link.reject()


@pytest.mark.parametrize(
    ("network", "how"),
    [
        pytest.param("namespaces", cut_from_its_quorum, marks=needs_machines),
        pytest.param("proxies", cut_from_its_quorum, marks=slow),
        pytest.param("namespaces", cut_from_its_clients, marks=[needs_machines, slow]),
        pytest.param("proxies", cut_from_its_clients, marks=slow),
        pytest.param("namespaces", rejected, marks=[needs_machines, slow]),
        pytest.param("proxies", rejected, marks=slow),
    ],
)
async def test_a_client_whose_member_is_of_no_more_use_moves_on_with_calls_keepalives_and_watches(
    tmp_path: Path, network: Network, how: Fault
) -> None:
    async with members(tmp_path, network=network) as etcd:
        lonely = (await etcd.followers())[0]
        there = etcd.endpoints_from(lonely)
        others = [member.endpoint for member in etcd.besides(lonely)]
        async with (
            standing(there) as candidate,
            recording(there) as recorder,
            Etcd(there) as caller,
            writing(others) as writer,
        ):
            leadership = await candidate.lead()
            await caller.get("/anything")
            await how(lonely)
            cut_at = boottime()
            await caller.get("/anything")  # which may be asked again, where a write would be ambiguous
            await caller.put("/anything", b"")
            await trusted_after(leadership, cut_at)
            await writer.more(10)
            await recorder.missed_nothing_of(writer)
            for client in (caller, candidate.client):
                assert client.connection.endpoint != lonely.endpoint


async def test_a_write_that_a_member_without_a_quorum_does_not_answer_is_never_told_to_be_refused(
    tmp_path: Path,
) -> None:
    """Of so many, some are answered by the member's own look at the deadline, before we look at ours."""

    async with members(tmp_path) as etcd:
        lonely = (await etcd.followers())[0]
        async with Etcd([lonely.endpoint], call_timeout_s=0.5) as client:
            await client.get("/anything")
            await lonely.link.cut(clients=False)
            while (await lonely.status()).leader:
                await asyncio.sleep(0.05)
            writes = (client.put(f"/{number}", b"") for number in range(1000))
            told = await asyncio.gather(*writes, return_exceptions=True)
            assert {type(error) for error in told} == {AmbiguousWrite}


@needs_machines
@one_way
@every_release
async def test_office_is_kept_and_no_event_is_lost_when_the_leader_of_etcd_is_cut_off_one_way(
    tmp_path: Path, binary: Path, sending: bool, hearing: bool
) -> None:
    async with members(tmp_path, binary=binary) as etcd:
        leader = await etcd.leader()
        there = etcd.endpoints_from(leader)
        async with standing(there) as candidate, recording(there) as recorder, writing(there) as writer:
            leadership = await candidate.lead()
            await leader.link.cut(sending=sending, hearing=hearing)
            await etcd.leader_among(etcd.besides(leader), other_than=leader)
            await writer.more(10)
            await trusted_after(leadership, boottime())
            await leader.link.heal()
            await leader.until_healthy()
            await writer.more(10)
            await trusted_after(leadership, boottime())
            await recorder.missed_nothing_of(writer)


@one_way
async def test_a_leader_that_is_cut_off_one_way_from_all_members_steps_down_before_another_wins(
    tmp_path: Path, sending: bool, hearing: bool
) -> None:
    async with (
        members(tmp_path) as etcd,
        lines_to(etcd.every) as lines,
        standing(lines.endpoints, timing=SHORT) as first,
        standing(etcd.endpoints, timing=SHORT) as second,
    ):
        deposed = await first.lead()
        async with second.queued() as winning:
            lines.cut(sending=sending, hearing=hearing)
            ended_at = await end_of(deposed)
            won = await winning
        assert ended_at < won.won_at


@one_way
async def test_a_leader_that_is_cut_off_one_way_from_one_member_keeps_office(
    tmp_path: Path, sending: bool, hearing: bool
) -> None:
    async with (
        members(tmp_path) as etcd,
        lines_to(etcd.every) as lines,
        standing(lines.endpoints) as candidate,
        recording(lines.endpoints) as recorder,
        writing(etcd.endpoints) as writer,
    ):
        leadership = await candidate.lead()
        lines.to(etcd.every[0]).cut(requests=sending, answers=hearing)
        await trusted_after(leadership, boottime())
        await writer.more(10)
        await recorder.missed_nothing_of(writer)
