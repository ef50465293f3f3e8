"""The port that says that a process is there is open to anybody, and nobody can take it away from candidates."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster import liveness
from leaderjob.cluster.liveness import incarnation_at, witness
from leaderjob.cluster.liveness_port import LivenessListener
from leaderjob.errors import SettingsError
from leaderjob.etcd import KeyValue
from leaderjob.model.member import Candidate

_HELLO = {"replica": "first", "incarnation": "incarnation-1"}
_STRANGER = "127.0.0.2"


def listener(port: int = 0) -> LivenessListener:
    return LivenessListener("first", "incarnation-1", "127.0.0.1", port)


class Stream:
    """A connection to a listener, which has greeted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ended(self) -> None:
        """Return when the listener has let go of it."""
        try:
            assert await self.reader.read() == b""
        except ConnectionResetError:
            return

    async def stands(self) -> bool:
        """Whether the listener holds it: it lets go, if at all, as soon as it has greeted."""
        done, waiting = await asyncio.wait([asyncio.ensure_future(self.ended())], timeout=0.1)
        for task in waiting:
            task.cancel()
            await asyncio.wait([task])
        return not done


@asynccontextmanager
async def streams(port: int, number: int, *, of: str = _STRANGER) -> AsyncIterator[list[Stream]]:
    """So many, one after the other, from the address ``of``; each was greeted."""
    found = []
    try:
        for _ in range(number):
            found.append(Stream(*await asyncio.open_connection("127.0.0.1", port, local_addr=(of, 0))))
            assert json.loads(await found[-1].reader.readline()) == _HELLO
        yield found
    finally:
        for stream in found:
            stream.writer.close()


def candidate_at(port: int) -> KeyValue:
    addresses = {"liveness": f"127.0.0.1:{port}"}
    record = Candidate(replica="first", incarnation="incarnation-1", addresses=addresses, since=utcnow())
    return KeyValue("/election/1", record.to_bytes(), 5, 5, 1, 1)


@pytest.mark.timeout_s(10)
async def test_of_one_address_a_few_may_stay_and_the_others_are_greeted_and_let_go() -> None:
    async with listener() as first, streams(first.port, 20) as strangers:
        for kept_out in strangers[8:]:
            await kept_out.ended()
        assert [await stream.stands() for stream in strangers[:8]] == [True] * 8


@pytest.mark.timeout_s(10)
async def test_a_stranger_who_holds_all_that_one_may_have_keeps_no_candidate_out() -> None:
    async with listener() as first, streams(first.port, 20):
        verdict = asyncio.ensure_future(witness(candidate_at(first.port)))
        async with streams(first.port, 1, of="127.0.0.1") as (after,):  # so the witness was greeted, too
            assert await after.stands()
    assert "nobody listens there any more" in await verdict


@pytest.mark.timeout_s(30)
async def test_where_many_strangers_hold_every_place_there_is_no_verdict_and_who_asks_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "_FIRST_DIAL_PAUSE_S", 0.01)
    greeted = asyncio.Queue[str]()
    dial = liveness._dial

    async def counted(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        found = await dial(address)
        greeted.put_nowait(found[2])
        return found

    monkeypatch.setattr(liveness, "_dial", counted)

    async with listener() as first:
        addresses = [f"127.0.0.{number}" for number in range(2, 10)]
        held = [streams(first.port, 8, of=address) for address in addresses]
        for each in held:
            assert all([await stream.stands() for stream in (await each.__aenter__())[-1:]])
        verdict = asyncio.ensure_future(witness(candidate_at(first.port)))
        for _ in range(6):  # each time it is let go, looks again, and the same process greets
            assert await greeted.get() == "incarnation-1"
        assert not verdict.done()
        verdict.cancel()
        await asyncio.wait([verdict])
        assert await incarnation_at(f"127.0.0.1:{first.port}") == "incarnation-1"
        for each in held:
            await each.__aexit__(None, None, None)


@pytest.mark.timeout_s(10)
async def test_the_place_of_who_went_away_is_another_ones() -> None:
    async with listener() as first, streams(first.port, 8) as strangers:
        async with streams(first.port, 1) as (kept_out,):
            await kept_out.ended()
        strangers[3].writer.close()
        strangers[4].writer.transport.abort()
        while True:
            async with streams(first.port, 2) as late:
                if [await stream.stands() for stream in late] == [True, True]:
                    break


@pytest.mark.timeout_s(5)
async def test_whoever_says_something_is_no_candidate_and_is_let_go() -> None:
    async with listener() as first, streams(first.port, 1) as (stream,):
        assert await stream.stands()
        stream.writer.write(b"GET / HTTP/1.1\r\n")
        await stream.ended()


@pytest.mark.timeout_s(5)
async def test_a_peer_whose_host_vanished_is_found_out_by_the_operating_system() -> None:
    """Nothing is ever sent on a stream, so nothing else would tell, and its place be lost for good."""

    def timers(port: int) -> list[str]:
        """Of connections to this port, as their listener's side has them: proc_net_tcp(5)."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return [
            fields[5]
            for fields in lines
            if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port
        ]

    async with listener() as first, streams(first.port, 1) as (stream,):
        assert await stream.stands()
        (timer,) = timers(first.port)
        kind, _, left = timer.partition(":")
        assert kind == "02"  # keepalive
        assert 0 < int(left, 16) <= 1500  # hundredths of a second


def test_with_hundreds_of_connections_it_stops_at_once_and_says_nothing(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:

        async def main() -> None:
            async with listener() as first:
                for number in range(300):
                    connection = socket.socket()
                    stack.enter_context(connection)
                    connection.bind((f"127.0.0.{2 + number % 20}", 0))
                    connection.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", first.port))
                assert await incarnation_at(f"127.0.0.1:{first.port}") == "incarnation-1"

        asyncio.run(main())
    assert caplog.records == []
    assert capfd.readouterr().err == ""


@pytest.mark.timeout_s(5)
async def test_who_is_reset_while_it_waits_to_be_accepted_disturbs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listener() as first:
        for _ in range(20):  # the loop does not turn in between
            with socket.create_connection(("127.0.0.1", first.port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with streams(first.port, 1) as (stream,):
            assert await stream.stands()
    assert caplog.records == []


@pytest.mark.timeout_s(5)
async def test_a_port_that_is_given_is_the_one_and_can_be_had_again_at_once() -> None:
    async with listener() as first, streams(first.port, 1):
        port = first.port
    async with (
        listener(port) as again,
        streams(again.port, 1) as (stream,),
    ):  # the former stream still rests
        assert again.port == port
        assert await stream.stands()


@pytest.mark.timeout_s(5)
async def test_a_port_in_use_is_an_error_that_names_the_setting() -> None:
    async with listener() as first:
        with pytest.raises(SettingsError) as caught:
            await listener(first.port).__aenter__()
        assert caught.value.exit_code == 2
        assert str(caught.value).startswith(
            f"setting 'replica.liveness_port': cannot listen on port {first.port} of 127.0.0.1 "
            "(Address already in use)"
        )
