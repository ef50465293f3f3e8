"""The port that says that a process is there is open to anybody, and nobody can take it away from candidates."""

import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster import liveness, liveness_port
from leaderjob.cluster.liveness import incarnation_at, witness
from leaderjob.cluster.liveness_port import LivenessListener
from leaderjob.errors import SettingsError
from leaderjob.etcd import KeyValue
from leaderjob.model.member import Candidate
from tests.support.commands import environment
from tests.support.loop import run_async

_HELLO = {"replica": "first", "incarnation": "incarnation-1"}
_STRANGER = "127.0.0.2"

_LISTENER_WITHOUT_DESCRIPTORS = """
import asyncio, logging, os, sys
from leaderjob.cluster import liveness_port
from leaderjob.cluster.liveness_port import LivenessListener

logging.basicConfig(format="%(name)s %(message)s")
if sys.argv[1] == "shared":  # an old kernel, or a strict sandbox
    liveness_port._own_descriptors = lambda *, but: None

async def listen():
    async with LivenessListener("first", "incarnation-1", "127.0.0.1") as listener:
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            print(listener.port, flush=True)
        await lines.readline()
        for descriptor in taken:
            os.close(descriptor)
        await lines.readline()

asyncio.run(listen())
"""


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


def test_of_one_address_a_few_may_stay_and_the_others_are_greeted_and_let_go() -> None:
    async def main() -> None:
        async with listener() as first, streams(first.port, 20) as strangers:
            for kept_out in strangers[8:]:
                await kept_out.ended()
            assert [await stream.stands() for stream in strangers[:8]] == [True] * 8

    run_async(main(), timeout_s=10)


def test_a_stranger_who_holds_all_that_one_may_have_keeps_no_candidate_out() -> None:
    async def main() -> None:
        async with listener() as first, streams(first.port, 20):
            verdict = asyncio.ensure_future(witness(candidate_at(first.port)))
            async with streams(first.port, 1, of="127.0.0.1") as (after,):  # so the witness was greeted, too
                assert await after.stands()
        assert "nobody listens there any more" in await verdict

    run_async(main(), timeout_s=10)


def test_where_many_strangers_hold_every_place_there_is_no_verdict_and_who_asks_is_answered(
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

    async def main() -> None:
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

    run_async(main(), timeout_s=30)


def test_the_place_of_who_went_away_is_another_ones() -> None:
    async def main() -> None:
        async with listener() as first, streams(first.port, 8) as strangers:
            async with streams(first.port, 1) as (kept_out,):
                await kept_out.ended()
            strangers[3].writer.close()
            strangers[4].writer.transport.abort()
            while True:
                async with streams(first.port, 2) as late:
                    if [await stream.stands() for stream in late] == [True, True]:
                        break

    run_async(main(), timeout_s=10)


def test_whoever_says_something_is_no_candidate_and_is_let_go() -> None:
    async def main() -> None:
        async with listener() as first, streams(first.port, 1) as (stream,):
            assert await stream.stands()
            stream.writer.write(b"GET / HTTP/1.1\r\n")
            await stream.ended()

    run_async(main(), timeout_s=5)


def test_a_peer_whose_host_vanished_is_found_out_by_the_operating_system() -> None:
    """Nothing is ever sent on a stream, so nothing else would tell, and its place be lost for good."""

    def timers(port: int) -> list[str]:
        """Of connections to this port, as their listener's side has them: proc_net_tcp(5)."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return [
            fields[5]
            for fields in lines
            if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port
        ]

    async def main() -> None:
        async with listener() as first, streams(first.port, 1) as (stream,):
            assert await stream.stands()
            (timer,) = timers(first.port)
            kind, _, left = timer.partition(":")
            assert kind == "02"  # keepalive
            assert 0 < int(left, 16) <= 1500  # hundredths of a second

    run_async(main(), timeout_s=5)


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


def test_who_is_reset_while_it_waits_to_be_accepted_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with listener() as first:
            for _ in range(20):  # the loop does not turn in between
                with socket.create_connection(("127.0.0.1", first.port)) as connection:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            async with streams(first.port, 1) as (stream,):
                assert await stream.stands()

    run_async(main(), timeout_s=5)
    assert caplog.records == []


@contextmanager
def without_descriptors(tables: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process that has none left, and its port."""
    program = f'ulimit -n 64; exec "{sys.executable}" -c "$0" {tables}'
    with subprocess.Popen(
        ["/bin/sh", "-c", program, _LISTENER_WITHOUT_DESCRIPTORS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())


def test_a_process_without_descriptors_is_seen_to_be_there_all_the_same() -> None:
    with (
        without_descriptors("own") as (process, port),
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        assert json.loads(connection.makefile().readline()) == _HELLO
        _, told = process.communicate("close them\nstop\n", timeout=10)
        assert (process.returncode, told) == (0, "")


def test_without_descriptors_it_says_so_once_and_greets_again_when_there_are_some() -> None:
    """Where the port has none of its own."""
    with without_descriptors("shared") as (process, port), ExitStack() as stack:
        assert process.stdin is not None
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(5)
        ]
        waiting[0].settimeout(2.5)  # it looks again in the meantime
        with pytest.raises(TimeoutError):
            waiting[0].recv(1)
        process.stdin.write("close them\n")
        process.stdin.flush()
        waiting[0].settimeout(10)
        for connection in waiting:
            assert json.loads(connection.makefile().readline()) == _HELLO
        _, told = process.communicate("stop\n", timeout=10)
        assert process.returncode == 0
    assert told == "leaderjob cannot_accept\n"


def test_its_descriptors_are_those_of_one_thread_so_that_they_close_before_the_memory_is_taken_apart() -> (
    None
):
    """And none is left in the process when it has ended."""

    def open_in(thread: int) -> list[str]:
        found = []
        for descriptor in list(Path(f"/proc/self/task/{thread}/fd").iterdir()):
            with suppress(FileNotFoundError):  # the one by which they are listed
                found.append(str(descriptor.readlink()))
        return found

    def listening(port: int) -> str:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        (inode,) = [
            fields[9]
            for fields in lines
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
        ]
        return f"socket:[{inode}]"

    async def main() -> None:
        before = len(open_in(threading.main_thread().native_id or 0))
        async with listener() as first:
            (thread,) = [each for each in threading.enumerate() if each.name == "liveness port"]
            listens = listening(first.port)
            own = open_in(thread.native_id or 0)
            assert [name for name in own if name.startswith("socket:")] == [listens]
            assert listens not in open_in(threading.main_thread().native_id or 0)
        assert len(open_in(threading.main_thread().native_id or 0)) == before

    run_async(main(), timeout_s=5)


def test_a_port_that_is_given_is_the_one_and_can_be_had_again_at_once() -> None:
    async def main() -> None:
        async with listener() as first, streams(first.port, 1):
            port = first.port
        async with (
            listener(port) as again,
            streams(again.port, 1) as (stream,),
        ):  # the former stream still rests
            assert again.port == port
            assert await stream.stands()

    run_async(main(), timeout_s=5)


def test_a_port_in_use_is_an_error_that_names_the_setting() -> None:
    async def main() -> None:
        async with listener() as first:
            with pytest.raises(SettingsError) as caught:
                await listener(first.port).__aenter__()
            assert caught.value.exit_code == 2
            assert str(caught.value).startswith(
                f"setting 'replica.liveness_port': cannot listen on port {first.port} of 127.0.0.1 "
                "(Address already in use)"
            )

    run_async(main(), timeout_s=5)


def test_its_thread_is_given_no_signal_because_the_loop_would_never_hear_of_it() -> None:
    async def main() -> None:
        async with listener():
            (thread,) = [each for each in threading.enumerate() if each.name == "liveness port"]
            status = Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
            (blocked,) = [int(line.split()[1], 16) for line in status if line.startswith("SigBlk:")]
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                assert blocked & (1 << (number - 1))

    run_async(main(), timeout_s=5)


def test_a_process_whose_loop_hangs_greets_nobody_and_is_not_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness_port, "_HANGS_AFTER_S", 0.6)

    def said_to(port: int) -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.settimeout(0.2)
            try:
                return connection.recv(100).decode()
            except TimeoutError:
                return ""

    async def main() -> None:
        async with listener() as first:
            assert json.loads(await asyncio.to_thread(said_to, first.port)) == _HELLO
            time.sleep(0.7)
            assert said_to(first.port) == ""
            await asyncio.sleep(0.3)
            assert json.loads(await asyncio.to_thread(said_to, first.port)) == _HELLO

    run_async(main(), timeout_s=10)


def test_a_port_that_cannot_serve_any_more_stays_open_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To close it would make others think that the process is dead."""

    def broken(self: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(liveness_port._Streams, "_accept", broken)

    async def main() -> None:
        async with listener() as first:
            for _ in range(2):
                with socket.create_connection(("127.0.0.1", first.port), timeout=5):
                    while not caplog.records:
                        await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", first.port), timeout=5)

    run_async(main(), timeout_s=10)
    assert [record.msg for record in caplog.records] == ["cannot_accept"]


def test_what_goes_wrong_before_the_port_is_bound_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*, but: int) -> None:
        raise OSError("no table")

    monkeypatch.setattr(liveness_port, "_own_descriptors", fail)

    async def main() -> None:
        with pytest.raises(OSError, match="no table"):
            async with listener():
                pass

    run_async(main(), timeout_s=5)
