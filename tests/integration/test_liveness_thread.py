"""The thread that serves the liveness port: what it has of its own, and what becomes of it when things go wrong."""

import asyncio
import gc
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from leaderjob.cluster import liveness_port
from leaderjob.cluster.liveness_port import LivenessListener
from tests.support.commands import environment

_HELLO = {"replica": "first", "incarnation": "incarnation-1"}

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


@pytest.mark.timeout_s(5)
async def test_its_descriptors_are_those_of_one_thread_so_that_they_close_before_the_memory_is_taken_apart() -> (
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

    before = set(open_in(threading.main_thread().native_id or 0))
    async with listener() as first:
        (thread,) = [each for each in threading.enumerate() if each.name == "liveness port"]
        listens = listening(first.port)
        own = open_in(thread.native_id or 0)
        assert [name for name in own if name.startswith("socket:")] == [listens]
        assert listens not in open_in(threading.main_thread().native_id or 0)
    assert set(open_in(threading.main_thread().native_id or 0)) <= before


@pytest.mark.timeout_s(5)
async def test_its_thread_is_given_no_signal_because_the_loop_would_never_hear_of_it() -> None:
    async with listener():
        (thread,) = [each for each in threading.enumerate() if each.name == "liveness port"]
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
        (blocked,) = [int(line.split()[1], 16) for line in status if line.startswith("SigBlk:")]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            assert blocked & (1 << (number - 1))


@pytest.mark.timeout_s(10)
async def test_a_process_whose_loop_hangs_greets_nobody_and_is_not_taken_for_dead(
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

    async with listener() as first:
        assert json.loads(await asyncio.to_thread(said_to, first.port)) == _HELLO
        time.sleep(0.7)
        assert said_to(first.port) == ""
        await asyncio.sleep(0.3)
        assert json.loads(await asyncio.to_thread(said_to, first.port)) == _HELLO


@pytest.mark.timeout_s(10)
async def test_a_port_that_cannot_serve_any_more_stays_open_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To close it would make others think that the process is dead."""

    def broken(self: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(liveness_port._Streams, "_accept", broken)

    async with listener() as first:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", first.port), timeout=5):
                while not caplog.records:
                    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first.port), timeout=5)
    assert [record.msg for record in caplog.records] == ["cannot_accept"]


@pytest.mark.timeout_s(5)
async def test_what_goes_wrong_before_the_port_is_bound_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*, but: int) -> None:
        raise OSError("no table")

    monkeypatch.setattr(liveness_port, "_own_descriptors", fail)

    with pytest.raises(OSError, match="no table"):
        async with listener():
            pass


@pytest.mark.timeout_s(10)
async def test_garbage_is_collected_by_the_event_loop_and_never_by_it() -> None:
    """What is closed by that, a forgotten socket say, is another descriptor in that thread."""
    collected_in = set()

    class Forgotten:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            collected_in.add(threading.current_thread().name)

    async with listener(), listener():
        assert not gc.isenabled()
        for _ in range(2 * gc.get_threshold()[0]):
            Forgotten()
        while not collected_in:
            await asyncio.sleep(0.01)
    assert gc.isenabled()
    assert collected_in == {threading.main_thread().name}
