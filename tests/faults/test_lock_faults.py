"""What the page on locks promises where etcd, the network or a holder fails."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from leaderjob.clock import boottime
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Put
from leaderjob.recipes import HoldLost, Lock, Semaphore
from tests.faults.harness import members
from tests.support import marked
from tests.support.candidates import SHORT
from tests.support.commands import Lines
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl
from tests.support.locks import session_on, until_standing, waiting
from tests.support.streams import run_with_streams

PREFIX = "/leaderjob/default/locks/x/"


async def test_who_is_cut_off_is_cancelled_before_the_next_one_holds_it(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    ended_at = 0.0

    async def hold(endpoint: str, came_in: asyncio.Event) -> None:
        nonlocal ended_at
        async with session_on(endpoint, SHORT) as session:
            with pytest.raises(HoldLost):
                async with Lock(session, "x", namespace=namespace):
                    came_in.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        ended_at = boottime()

    came_in = asyncio.Event()
    async with Cuttable(etcd.endpoint) as line, session_on(etcd.endpoint) as second:
        holding = asyncio.create_task(hold(line.endpoint, came_in))
        await came_in.wait()
        async with waiting(Lock(second, "x", namespace=namespace).acquire()) as turn:
            await until_standing(etcd.endpoint, f"/leaderjob/{namespace}/locks/x/", 2)
            line.cut()
            await turn
            assert 0 < ended_at < boottime()
            line.heal()
            await holding


@pytest.mark.slow
async def test_a_lock_outlives_the_death_of_etcds_leader_and_is_handed_over_after_it(tmp_path: Path) -> None:
    async with members(tmp_path) as etcd:
        one, two = (member.endpoint for member in await etcd.followers())
        async with session_on(one) as first, session_on(two) as second:
            lock = Lock(first, "x")
            held = await lock.acquire()
            async with waiting(Lock(second, "x").acquire()) as turn:
                await until_standing(two, PREFIX, 2)
                (await etcd.leader()).kill()
                assert (await first.etcd.get(held.key)) is not None
                held.check()
                assert not turn.done()
                await lock.release(held)
                await turn


@pytest.mark.slow
async def test_without_a_quorum_a_hold_ends_and_nobody_else_gets_it_until_it_is_back(tmp_path: Path) -> None:
    async with members(tmp_path) as etcd:
        survivor = await etcd.leader()
        async with (
            session_on(survivor.endpoint, SHORT) as first,
            session_on(survivor.endpoint, SHORT) as second,
        ):
            lock = Lock(first, "x")
            held = await lock.acquire()
            async with waiting(Lock(second, "x").acquire()) as turn:
                await until_standing(survivor.endpoint, PREFIX, 2)
                for member in await etcd.followers():
                    member.stop()
                await held.wait_ended()
                await asyncio.wait([turn], timeout=SHORT.ttl_s)
                assert not turn.done()
                await etcd.mend()
                await lock.release(held)
                await turn


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [Lock, lambda session, name, namespace: Semaphore(session, name, 1, namespace=namespace)]
)
async def test_who_waits_gets_its_turn_though_etcd_compacts(
    own_etcd: EmbeddedEtcd, namespace: str, kind: type[Lock]
) -> None:
    etcd = own_etcd
    async with (
        session_on(etcd.endpoint) as first,
        Cuttable(etcd.endpoint) as line,
        session_on(line.endpoint) as second,
    ):
        lock = kind(first, "x", namespace=namespace)
        held = await lock.acquire()
        async with waiting(kind(second, "x", namespace=namespace).acquire()) as turn:
            await until_standing(etcd.endpoint, f"/leaderjob/{namespace}/", 2 if kind is Lock else 3)
            line.cut()
            await lock.release(held)
            revision = (await first.etcd.txn([], [Put(f"/{namespace}", b"")])).revision
            await asyncio.to_thread(etcdctl, etcd.endpoint, "compact", str(revision))
            line.reset()
            line.heal()
            await turn


@pytest.mark.slow
def test_a_holder_that_is_stopped_has_no_command_any_more_when_the_next_one_begins(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, time\nprint('up', os.getpid(), flush=True)\ntime.sleep(1000)"
    command = ["lock", f"--etcd={etcd.endpoint}", f"--namespace={namespace}", "--ttl=3", "x", "--"]
    started = [sys.executable, "-m", "leaderjob", *command, sys.executable, "-I", "-S", "-c", code]
    mark = marked.put_mark(monkeypatch)
    with Lines(*started) as first:
        pid = int(first.until(lambda line: line.startswith("up")).split()[1])
        assert pid in marked.alive(mark)
        with Lines(*started) as second:
            run_with_streams(until_standing(etcd.endpoint, f"/leaderjob/{namespace}/locks/x/", 2))
            os.kill(first.pid, signal.SIGSTOP)
            second.until(lambda line: line.startswith("up"), timeout_s=20)
            assert pid not in marked.alive(mark)
            os.kill(first.pid, signal.SIGCONT)
            assert first.wait(15) == 1
