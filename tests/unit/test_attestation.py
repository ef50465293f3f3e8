"""A guard outlives its replica for a while, and says when nothing is left of the worker."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from leaderjob.execution import guard as guard_program
from leaderjob.execution import start_guard
from leaderjob.execution.attestation import Attestation, attestation, attested
from leaderjob.modules import environment_for_children
from tests.support import marked
from tests.support.needs import needs

REPLICA = """
import asyncio, json, sys
from pathlib import Path
from leaderjob.execution.attestation import attestation
from leaderjob.execution.process import GuardedProcess
async def main():
    here = Path.cwd()
    command = [sys.executable, "-I", "-S", "-c", sys.argv[1]]
    with attestation("127.0.0.1", "127.0.0.1", stay_s=float(sys.argv[2])) as attest:
        options = dict(log_path=here / "log", cwd=here, deadline=None, grace_s=5.0, attestation=attest)
        async with GuardedProcess(command, **options) as process:
            async for message in process.messages():
                print(json.dumps([process.pid, attest.address, attest.nonce]), flush=True)
                sys.stdin.readline()
                process.kill()
asyncio.run(main())
"""
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    while True:
        time.sleep(1000)
os.write(int(sys.argv[-1]), b"{}\\n")
while True:
    time.sleep(1000)
"""


class Running:
    """A replica with a worker that does not obey. :ivar guard: its pid."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        assert process.stdout is not None
        self.guard, self.address, self.nonce = json.loads(process.stdout.readline())


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


@contextmanager
def running(directory: Path, *, stay_s: float = 30.0) -> Iterator[Running]:
    command = [sys.executable, "-c", REPLICA, STUBBORN, str(stay_s)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=directory,
        env=environment_for_children(os.environ),
    ) as process:
        it = Running(process)
        try:
            yield it
        finally:
            process.kill()
            if Path(f"/proc/{it.guard}").exists():
                os.kill(it.guard, signal.SIGTERM)


def sockets_of(*pids: int) -> list[str]:
    links = [link.readlink() for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()]
    return [str(link) for link in links if str(link).startswith("socket:")]


async def within(seconds: float, address: str, nonce: str) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await attested(address, nonce)
    except TimeoutError:
        return False
    return True


async def test_after_the_death_of_its_replica_a_guard_attests_as_soon_as_nothing_is_left(
    tmp_path: Path, mark: str
) -> None:
    with running(tmp_path) as it:
        asking = asyncio.create_task(attested(it.address, it.nonce))
        assert not await within(0.3, it.address, it.nonce), "the worker lives"
        assert len(marked.alive(mark)) == 4
        assert sockets_of(*set(marked.alive(mark)) - {it.guard, it.process.pid}) == []
        it.process.kill()
        await asking
        assert marked.alive(mark) == [it.guard]
        assert await within(5.0, it.address, it.nonce), "whoever asks later is told as well"


@contextmanager
def raw_guard(*program: str) -> "Iterator[tuple[subprocess.Popen[bytes], Attestation]]":
    """A guard whose worker is up, with ends of its pipes that can be closed one after the other."""
    read, write = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    errors = os.dup(2)
    worker = [sys.executable, "-I", "-S", "-c", STUBBORN, str(write)]
    with attestation("127.0.0.1", "127.0.0.1", stay_s=30.0) as attest:
        assert attest is not None
        descriptors = (attest.listener.fileno(), null, errors, write)
        attests = f"{descriptors[0]},{attest.nonce},30.0"
        guard = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                *program,
                "none",
                "5.0",
                attests,
                "",
                f"{null},{errors},{errors},{write}",
                *worker,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
        )
    os.close(write)
    os.close(null)
    os.close(errors)
    assert os.read(read, 100) == b"{}\n"
    os.close(read)
    with guard:
        try:
            yield guard, attest
        finally:
            guard.kill()


def close(stream: IO[bytes] | None) -> None:
    assert stream is not None
    stream.close()


async def test_a_guard_that_could_not_reap_everything_attests_nothing(mark: str) -> None:
    """One that finds none of the processes which the worker leaves behind."""
    folder = str(Path(str(guard_program.__file__)).parent)
    blind = f"import sys; sys.path.append({folder!r}); import guard; guard.descendants = lambda root: []; "
    with raw_guard("-c", blind + "guard.REAP_BOUND_S = 0.3; guard.main(sys.argv[1:])") as (guard, attest):
        close(guard.stdout)
        close(guard.stdin)
        assert not await within(1.5, attest.address, attest.nonce)
        assert guard.wait(5) == 0
    for pid in marked.alive(mark):
        os.kill(pid, signal.SIGKILL)


async def test_a_guard_attests_though_its_dying_replica_could_still_be_told(mark: str) -> None:
    """The kernel closes what a dead process had open one after the other."""
    with raw_guard(str(start_guard.__file__)) as (guard, attest):
        close(guard.stdin)
        assert await within(5.0, attest.address, attest.nonce)


async def test_another_nonce_is_another_attempt(tmp_path: Path, mark: str) -> None:
    with running(tmp_path) as it:
        it.process.kill()
        assert not await within(0.6, it.address, "of another")


def test_a_guard_does_not_stay_for_ever(tmp_path: Path, mark: str) -> None:
    with running(tmp_path, stay_s=0.5) as it:
        it.process.kill()
        assert marked.left_after(mark, within_s=5) == []


async def test_a_service_manager_that_wants_to_restart_the_replica_waits_two_seconds_at_most(
    tmp_path: Path, mark: str
) -> None:
    with running(tmp_path) as it:
        os.kill(it.guard, signal.SIGTERM)
        assert marked.left_after(mark, within_s=0.2) != [], "as long as the replica lives, nobody obeys"
        it.process.kill()
        assert await within(1.5, it.address, it.nonce)
        assert marked.left_after(mark, within_s=5) == []


async def test_a_replica_that_lives_is_told_itself_and_nobody_stays(tmp_path: Path, mark: str) -> None:
    with running(tmp_path) as it:
        assert it.process.stdin is not None
        it.process.stdin.write(b"\n")
        it.process.stdin.flush()
        assert it.process.wait(2) == 0
        assert marked.left_after(mark, within_s=1) == []
        assert not await within(0.3, it.address, it.nonce)


async def test_whoever_else_is_met_under_the_address_says_nothing(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1")
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        for said in (b"", b"SSH-2.0\r\n", b"[]\n", b'{"reaped": null}\n', b"{" + b" " * 9000):  # noqa: B007
            assert not await within(0.1, address, "nonce")


def test_where_no_socket_can_be_had_the_attempt_does_without() -> None:
    with attestation("192.0.2.1", "192.0.2.1", stay_s=1.0) as attest:
        assert attest is None


@needs("ipv6")
def test_an_address_of_ipv6_is_told_in_brackets() -> None:
    with attestation("::1", "::1", stay_s=1.0) as attest:
        assert isinstance(attest, Attestation)
        assert attest.address.startswith("[::1]:")
        with closing(socket.create_connection(("::1", int(attest.address.rpartition(":")[2])))):
            pass


def test_a_guard_that_may_attest_stays_as_small(tmp_path: Path, mark: str) -> None:
    with running(tmp_path) as it:
        status = Path(f"/proc/{it.guard}/status").read_text()
        resident_kb = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        assert resident_kb < 15 * 1024
