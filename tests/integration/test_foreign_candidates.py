"""Our election and etcd's own recipe, as ``etcdctl elect`` has it, are one and the same election."""

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.candidates import Place, campaigning
from tests.support.etcd import every_release, program


@asynccontextmanager
async def etcdctl_elect(place: Place, *args: str) -> AsyncIterator[Process]:
    """``etcdctl elect`` in the election; ends it at the end, if it has not ended."""
    command = [str(program("etcdctl")), f"--endpoints={place.endpoint}", "elect", *args]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"ETCDCTL_API": "3", "HOME": os.environ.get("HOME", "/")},
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def name(place: Place) -> str:
    """What etcd's recipe calls the election: it adds the slash itself."""
    return place.prefix.removesuffix("/")


async def told(process: Process) -> tuple[str, str]:
    """The key and the value that it prints next."""
    assert process.stdout is not None
    key, value = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
    return key, value


@every_release("etcd")
@pytest.mark.timeout_s(10)
async def test_a_foreign_candidate_wins_when_we_resign_and_we_win_when_it_goes(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    place = Place(etcd.endpoint, namespace)
    async with (
        place.candidate() as (ours, session, _),
        place.candidate() as (next_of_ours, next_session, _),
    ):
        leadership = await ours.campaign(session, b"ours")
        async with etcdctl_elect(place, name(place), "foreign") as foreign:
            _, queued = await place.until(2)
            async with campaigning(next_of_ours, next_session) as winning:
                await place.until(3)
                await ours.resign(leadership)
                assert await told(foreign) == (queued.key, "foreign")
                assert not winning.done()
                foreign.terminate()
                assert (await winning).trusted


@every_release("etcd")
@pytest.mark.timeout_s(10)
async def test_etcds_own_observer_sees_our_leader_and_what_it_proclaims(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    place = Place(etcd.endpoint, namespace)
    async with (
        place.candidate() as (election, session, _),
        etcdctl_elect(place, "--listen", name(place)) as observer,
    ):
        leadership = await election.campaign(session, b"candidate")
        assert await told(observer) == (leadership.term.key, "candidate")
        await election.proclaim(leadership, b"leader")
        assert await told(observer) == (leadership.term.key, "leader")


@pytest.mark.timeout_s(10)
async def test_our_observer_sees_a_foreign_leader(etcd: EmbeddedEtcd, namespace: str) -> None:
    place = Place(etcd.endpoint, namespace)
    async with place.candidate() as (election, _, _), etcdctl_elect(place, name(place), "foreign") as it:
        key, value = await told(it)
        leader = await election.leader()
        assert leader is not None
        assert (leader.key, leader.value.decode()) == (key, value) == (key, "foreign")
