"""The verdict on a predecessor: certain that its process is gone, or none."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime, utcnow
from leaderjob.cluster import liveness
from leaderjob.cluster.liveness import incarnation_at, witness
from leaderjob.cluster.liveness_port import LivenessListener
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.etcd import KeyValue
from leaderjob.model.member import Candidate
from tests.support.candidates import TIMING, Place
from tests.support.cuttable import Cuttable

ROOT = Path(__file__).parents[2]

LEADER = """
import asyncio, sys
from leaderjob.clock import utcnow
from leaderjob.cluster.liveness_port import LivenessListener
from leaderjob.etcd import Etcd
from leaderjob.model.member import Candidate
from leaderjob.recipes import Election, Session, Timing

async def lead(endpoint, prefix, ttl_s):
    async with LivenessListener("first", "incarnation-1", "127.0.0.1") as listener, Etcd([endpoint]) as etcd:
        async with await Session.open(etcd, Timing(ttl_s=float(ttl_s))) as session:
            addresses = {"liveness": f"127.0.0.1:{listener.port}"}
            candidate = Candidate(
                replica="first", incarnation="incarnation-1", addresses=addresses, since=utcnow()
            )
            await Election.below(etcd, prefix).campaign(session, candidate.to_bytes())
            print("leads", flush=True)
            await asyncio.Event().wait()

asyncio.run(lead(*sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _dials_soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_FIRST_DIAL_PAUSE_S", 0.02)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """Every address that is dialled, once it is known what came of it."""
    dialled = asyncio.Queue[str]()
    dial = liveness._dial

    async def told(address: str) -> Any:
        try:
            return await dial(address)
        finally:
            dialled.put_nowait(address)

    monkeypatch.setattr(liveness, "_dial", told)
    return dialled


def candidate_at(address: str | None, incarnation: str = "incarnation-1") -> KeyValue:
    addresses = {} if address is None else {"liveness": address}
    record = Candidate(replica="first", incarnation=incarnation, addresses=addresses, since=utcnow())
    return KeyValue("/election/1", record.to_bytes(), 5, 5, 1, 1)


@asynccontextmanager
async def witnessing(predecessor: KeyValue) -> AsyncIterator[asyncio.Task[str]]:
    task = asyncio.ensure_future(witness(predecessor))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def listener(incarnation: str = "incarnation-1") -> LivenessListener:
    return LivenessListener("first", incarnation, "127.0.0.1")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT], ids=["killed", "crashed"])
@pytest.mark.timeout_s(30)
async def test_when_the_leaders_process_dies_the_next_candidate_wins_long_before_the_ttl_is_over(
    etcd: EmbeddedEtcd, namespace: str, how: signal.Signals
) -> None:
    async def incarnation_of_first(place: Place) -> None:
        """A dial of our own, begun later than the witness's, has been greeted: so has that one."""
        first, _ = await place.until(2)
        address = json.loads(first.value)["addresses"]["liveness"]
        assert await incarnation_at(address) == "incarnation-1"

    place = Place(etcd.endpoint, namespace)
    command = [sys.executable, "-c", LEADER, place.endpoint, place.prefix, str(TIMING.ttl_s)]
    leader = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": ""}
    )
    try:
        assert leader.stdout is not None
        assert await leader.stdout.readline() == b"leads\n"
        connected = asyncio.Event()

        async def witness_that_tells(predecessor: KeyValue) -> str:
            connected.set()
            return await witness(predecessor)

        async with place.candidate() as (election, session, _):
            winning = asyncio.ensure_future(election.campaign(session, b"second", witness=witness_that_tells))
            await connected.wait()
            await incarnation_of_first(place)
            leader.send_signal(how)
            killed_at = boottime()
            leadership = await winning
            assert leadership.won_at - killed_at < 1.0
    finally:
        if leader.returncode is None:
            leader.kill()
        await leader.wait()


@pytest.mark.timeout_s(30)
async def test_a_stream_that_breaks_where_nobody_listens_any_more_is_a_verdict(
    dialled: asyncio.Queue[str],
) -> None:
    async with listener() as first:
        watching = asyncio.ensure_future(witness(candidate_at(f"127.0.0.1:{first.port}")))
        await dialled.get()
    evidence = await watching
    assert "nobody listens there any more" in evidence
    assert f"first at 127.0.0.1:{first.port}" in evidence


@pytest.mark.timeout_s(30)
async def test_a_stream_that_breaks_where_another_process_listens_now_is_a_verdict(
    dialled: asyncio.Queue[str],
) -> None:
    async with (
        listener() as first,
        listener("incarnation-2") as second,
        Cuttable(f"127.0.0.1:{first.port}") as address,
        witnessing(candidate_at(address.endpoint)) as watching,
    ):
        await dialled.get()
        address.server = f"127.0.0.1:{second.port}"
        address.reset()
        assert "incarnation-2 listens there now" in await watching


@pytest.mark.timeout_s(30)
async def test_a_connection_that_is_merely_reset_is_no_verdict_however_often(
    dialled: asyncio.Queue[str],
) -> None:
    async with (
        listener() as first,
        Cuttable(f"127.0.0.1:{first.port}") as address,
        witnessing(candidate_at(address.endpoint)) as watching,
    ):
        for _ in range(5):
            await dialled.get()  # the stream stands
            address.reset()
            await dialled.get()  # it was looked at again
        await dialled.get()
        assert not watching.done()


@pytest.mark.timeout_s(30)
async def test_a_host_that_answers_nothing_any_more_is_no_verdict(dialled: asyncio.Queue[str]) -> None:
    """It may be cut off from us, and lead."""

    async with (
        listener() as first,
        Cuttable(f"127.0.0.1:{first.port}") as address,
        witnessing(candidate_at(address.endpoint)) as watching,
    ):
        await dialled.get()
        address.cut()
        address.reset()
        await dialled.get()  # connected, and not greeted within the time that a verdict may take
        await address.accepted(3)  # so it begins anew
        assert not watching.done()


@pytest.mark.timeout_s(30)
async def test_a_candidate_that_was_never_reached_is_never_judged(dialled: asyncio.Queue[str]) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    async with witnessing(candidate_at(nobody)) as watching:
        for _ in range(5):
            await dialled.get()
        assert not watching.done()


@pytest.mark.timeout_s(30)
async def test_an_address_where_another_incarnation_was_from_the_start_is_never_judged(
    dialled: asyncio.Queue[str],
) -> None:
    async with listener("incarnation-2") as second:
        watching = asyncio.ensure_future(witness(candidate_at(f"127.0.0.1:{second.port}")))
        await dialled.get()
    for _ in range(3):
        await dialled.get()
    assert not watching.done()
    watching.cancel()
    await asyncio.wait([watching])


@pytest.mark.timeout_s(30)
async def test_a_name_that_leads_elsewhere_the_next_time_is_no_verdict(
    dialled: asyncio.Queue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens at the second address, and the process lives at the first one."""
    resolve = socket.getaddrinfo
    leads_to = iter(["127.0.0.1", "127.0.0.2"])

    def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        return resolve(next(leads_to, "127.0.0.2") if host == "first.example" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async with listener() as first, Cuttable(f"127.0.0.1:{first.port}") as address:
        named = address.endpoint.replace("127.0.0.1", "first.example")
        async with witnessing(candidate_at(named)) as watching:
            assert await dialled.get() == named
            address.reset()
            assert await dialled.get() == address.endpoint
            assert await dialled.get() == named
            assert not watching.done()


@pytest.mark.parametrize(
    "value", [b"foreign", b"{}", b"\xff", candidate_at(None).value], ids=["text", "empty", "bytes", "silent"]
)
async def test_a_candidate_that_is_not_ours_or_gives_no_address_is_never_judged(
    dialled: asyncio.Queue[str], value: bytes
) -> None:
    async with witnessing(KeyValue("/election/1", value, 5, 5, 1, 1)) as watching:
        done, _ = await asyncio.wait([watching], timeout=0.05)
        assert not done
        assert dialled.empty()


async def test_a_listener_tells_its_incarnation_and_whoever_else_listens_tells_none() -> None:
    async with listener() as first:
        assert await incarnation_at(f"127.0.0.1:{first.port}") == "incarnation-1"
        async with Cuttable(f"127.0.0.1:{first.port}") as silent:
            silent.cut()
            assert await incarnation_at(silent.endpoint, timeout_s=0.1) is None
    assert await incarnation_at(f"127.0.0.1:{first.port}") is None
