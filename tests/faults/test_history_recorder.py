"""The recorder misses nothing, and says so where it cannot know; and a sound cluster violates nothing."""

import asyncio
from pathlib import Path

import pytest

from leaderjob.clock import boottime
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.records.keys import Keys
from tests.faults.harness import Member, members
from tests.faults.history import History, Intervention, Recorder, What, check
from tests.faults.history.scene import BOUNDS, scene
from tests.support.etcd import etcdctl
from tests.support.streams import run_with_streams


def values(history: History) -> list[bytes]:
    return [change.now.value for change in history.changes if change.now is not None]


async def test_each_change_has_what_was_there_before(etcd: EmbeddedEtcd, namespace: str) -> None:
    key = f"{Keys(namespace).root}value"

    before = boottime()
    with Recorder([etcd.endpoint], namespace) as recorder:
        async with Etcd([etcd.endpoint]) as client:
            await client.put(key, b"one")
            await client.put(key, b"two")
            await client.delete(key)
        history = recorder.history(at_rest=True)
    assert [
        (change.now and change.now.value, change.before and change.before.value) for change in history.changes
    ] == [
        (b"one", None),
        (b"two", b"one"),
        (None, b"two"),
    ]
    assert history.rest == {}
    assert all(before < change.at <= history.ended_at for change in history.changes)


def test_what_was_compacted_before_it_was_read_is_unknown(own_etcd: EmbeddedEtcd, namespace: str) -> None:
    root = Keys(namespace).root

    async def write() -> int:
        async with Etcd([own_etcd.endpoint]) as client:
            await client.put(f"{root}deleted", b"")
            await client.delete(f"{root}deleted")
            await client.put(f"{root}value", b"one")
            return await client.put(f"{root}value", b"two")

    etcdctl(own_etcd.endpoint, "compact", str(run_with_streams(write())))
    with Recorder([own_etcd.endpoint], namespace) as recorder:
        history = recorder.history(at_rest=True)
    assert values(history) == [b"two"]
    assert [change.listed for change in history.changes] == [True]
    (violation,) = check(history, BOUNDS)
    assert violation.invariant == "unknown"
    assert "compacted" in violation.sentence


async def test_nothing_is_lost_or_repeated_from_one_member_to_the_next(
    tmp_path: Path, namespace: str
) -> None:
    key = f"{Keys(namespace).root}value"

    async with members(tmp_path, network="proxies") as etcd:

        async def write(first: int, through: Member) -> None:
            async with Etcd(etcd.endpoints_from(through)) as client:
                for number in range(first, first + 20):
                    await client.put(key, str(number).encode())

        (one, two), three = await etcd.followers(), await etcd.leader()
        with Recorder(etcd.endpoints_from(one), namespace) as recorder:
            await write(0, two)
            recorder.switch(two.endpoint)
            await write(20, three)
            two.kill()
            await write(40, three)
            history = await asyncio.to_thread(recorder.history, at_rest=True)
            assert values(history) == [str(number).encode() for number in range(60)]
            assert check(history, BOUNDS) == []


def test_an_intervention_lasts_as_long_as_its_block_and_its_aftermath(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    with Recorder([etcd.endpoint], namespace) as recorder:
        with recorder.noting(Intervention.REVOCATION, about="a", aftermath_s=5.0):
            began_at = boottime()
        history = recorder.history()
    assert [
        history.excused(Intervention.REVOCATION, began_at + seconds, about="a")
        for seconds in (-1.0, 0.0, 4.9, 6.0)
    ] == [False, True, True, False]
    assert not history.excused(Intervention.REVOCATION, began_at, about="b")
    assert not history.excused(Intervention.OUTAGE, began_at)


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sound_cluster_violates_nothing(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, killed: bool
) -> None:
    jobs = ["builds", "ticks", "escapes"]
    schedules = {"builds": "every 2s", "escapes": "every 2s"}
    params = {name: {"seconds": 0.2} for name in ("builds", "escapes")}
    with scene(etcd.endpoint, namespace, tmp_path, jobs=jobs, schedules=schedules, params=params) as it:
        it.start()
        for job in jobs:
            it.wait_for_effects(job, What.ENDED, 1)
        it.serves("builds", 1)
        if killed:
            leader = it.watched().leader()
            leader.kill()
            it.next_leader(leader.name)
        for replica in it.replicas.values():
            if replica.runs:
                assert replica.terminate() == 0
        if killed:
            it.let_pass(BOUNDS.ttl_s + 1.0)
        history = it.history(afterwards=True)
        assert {effect.job for effect in history.effects} == set(jobs)
        assert history.served
        assert it.violated(healthy=not killed, afterwards=True) == set()
