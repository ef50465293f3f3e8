"""What a guard promises: whatever a worker does, it ends in time, with all that it started."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime
from leaderjob.execution import guard as guard_program
from leaderjob.execution import start_guard
from leaderjob.execution.guarded import Cause
from leaderjob.execution.process import GuardedProcess
from leaderjob.modules import environment_for_children
from tests.support import marked

# What every worker of these tests can say; its last argument is the descriptor for messages.
PRELUDE = """
import json, os, signal, sys, time
def tell(**message): os.write(int(sys.argv[-1]), json.dumps(message).encode() + b"\\n")
def daemon():
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(write, b"x")
            time.sleep(1000)
        os._exit(0)
    os.wait()
    os.read(read, 1)
"""
IGNORES_TERM = "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell(up=1); time.sleep(1000)"
SLEEPS = "tell(up=1); time.sleep(1000)"


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


def guarded(tmp_path: Path, code: str, **options: Any) -> GuardedProcess:
    options = {"deadline": None, "grace_s": 0.2, **options}
    command = [sys.executable, "-I", "-S", "-c", PRELUDE + code]
    return GuardedProcess(command, log_path=tmp_path / "log", cwd=tmp_path, **options)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def first_message(process: GuardedProcess) -> dict[str, Any]:
    async for message in process.messages():
        return message
    raise AssertionError(f"the worker said nothing: {await process.wait()}")


async def all_messages(process: GuardedProcess) -> list[dict[str, Any]]:
    return [message async for message in process.messages()]


async def test_a_worker_that_ends_by_itself_reports_its_status_and_its_peak_memory(
    tmp_path: Path, mark: str
) -> None:
    async with guarded(
        tmp_path, "x = bytearray(64 << 20); x[::4096] = b'y' * (64 << 8); sys.exit(7)"
    ) as process:
        ended = await process.wait()
    assert (ended.code, ended.signal, ended.cause, ended.reaped) == (7, None, Cause.EXIT, True)
    assert ended.max_rss_bytes is not None
    assert ended.max_rss_bytes > 64 << 20
    assert marked.alive(mark) == []


async def test_a_worker_that_ignores_term_is_killed_after_the_grace(tmp_path: Path, mark: str) -> None:
    async with guarded(tmp_path, IGNORES_TERM) as process:
        await first_message(process)
        asked_at = boottime()
        process.stop(0.5)
        ended, took_s = await process.wait(), boottime() - asked_at
    assert (ended.signal, ended.cause, ended.reaped) == (signal.SIGKILL, Cause.STOP, True)
    assert 0.5 <= took_s < 10.0
    assert marked.alive(mark) == []


@pytest.mark.parametrize("moved_s", [0, 100], ids=["stays", "moves too late"])
async def test_term_comes_a_grace_before_the_deadline_and_kill_at_the_deadline_though_it_moves_in_between(
    tmp_path: Path, mark: str, moved_s: int
) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: tell(term=1)); tell(up=1)\nwhile True: time.sleep(1000)"

    started_at = boottime()
    async with guarded(tmp_path, code, deadline=started_at + 2.0, grace_s=1.0) as process:
        await first_message(process)
        assert await first_message(process) == {"term": 1}
        term_s = boottime() - started_at
        process.set_deadline(started_at + 2.0 + moved_s)
        ended, killed_s = await process.wait(), boottime() - started_at
    assert (ended.signal, ended.cause, ended.reaped) == (signal.SIGKILL, Cause.DEADLINE, True)
    assert 1.0 <= term_s < 2.0
    assert 2.0 <= killed_s < 20.0
    assert marked.alive(mark) == []


async def test_a_deadline_that_moves_lets_the_worker_live(tmp_path: Path, mark: str) -> None:
    code = "tell(up=1); sys.stdin.readline(); sys.exit(3)"
    deadline = boottime() + 0.8
    async with guarded(tmp_path, code, deadline=deadline, grace_s=0.1) as process:
        await first_message(process)
        process.set_deadline(deadline + 1000)
        await asyncio.sleep(deadline - boottime() + 0.3)  # the old deadline has to pass
        process.send(b"go on\n")
        ended = await process.wait()
    assert (ended.code, ended.cause) == (3, Cause.EXIT)


async def test_after_the_deadline_no_worker_is_started(tmp_path: Path, mark: str) -> None:
    async with guarded(tmp_path, SLEEPS, deadline=boottime() - 0.001) as process:
        ended, messages = await process.wait(), await all_messages(process)
    assert (ended.cause, ended.reaped) == (Cause.REFUSED, True)
    assert messages == []
    assert marked.alive(mark) == []


async def test_what_a_worker_leaves_behind_is_killed_when_it_ends(tmp_path: Path, mark: str) -> None:
    async with guarded(tmp_path, "daemon(); tell(up=1)") as process:
        ended = await process.wait()
    assert (ended.code, ended.cause, ended.reaped) == (0, Cause.EXIT, True)
    assert marked.alive(mark) == []


async def test_a_double_fork_with_a_session_of_its_own_does_not_escape_the_kill(
    tmp_path: Path, mark: str
) -> None:
    async with guarded(tmp_path, "daemon(); daemon();" + IGNORES_TERM) as process:
        await first_message(process)
        assert len(marked.alive(mark)) == 4  # the guard, the worker, two daemons
        process.kill()
        ended = await process.wait()
    assert (ended.signal, ended.reaped) == (signal.SIGKILL, True)
    assert marked.alive(mark) == []


async def test_a_process_that_flees_by_forking_is_caught(tmp_path: Path, mark: str) -> None:
    flees = "tell(up=1)\nwhile True:\n    if os.fork(): os._exit(0)"

    async with guarded(tmp_path, f"if os.fork() == 0:\n    exec({flees!r})\ntime.sleep(1000)") as process:
        await first_message(process)
        process.kill()
        assert (await process.wait()).reaped
    assert marked.alive(mark) == []


async def test_a_worker_that_holds_the_interpreter_lock_is_killed(tmp_path: Path, mark: str) -> None:
    code = """
import ctypes
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
libc = ctypes.PyDLL(None)  # keeps the lock during the call
tell(up=1)
while True: libc.usleep(100_000_000)
"""

    async with guarded(tmp_path, code) as process:
        await first_message(process)
        process.stop(0.3)
        assert (await process.wait()).reaped
    assert marked.alive(mark) == []


async def test_a_stopped_worker_is_killed_at_the_deadline(tmp_path: Path, mark: str) -> None:
    async with guarded(
        tmp_path, "tell(up=os.getpid()); time.sleep(1000)", deadline=boottime() + 1
    ) as process:
        os.kill((await first_message(process))["up"], signal.SIGSTOP)
        ended = await process.wait()
    assert (ended.signal, ended.cause, ended.reaped) == (signal.SIGKILL, Cause.DEADLINE, True)
    assert marked.alive(mark) == []


REPLICA = """
import asyncio, sys
from pathlib import Path
from leaderjob.execution.process import GuardedProcess
async def main():
    here = Path.cwd()
    command = [sys.executable, "-I", "-S", "-c", sys.argv[1]]
    async with GuardedProcess(command, log_path=here / "log", cwd=here, deadline=None, grace_s=5.0) as process:
        async for message in process.messages():
            print(process.pid, flush=True)
asyncio.run(main())
"""


def start_replica(tmp_path: Path, code: str) -> tuple[subprocess.Popen[bytes], int]:
    """A process that runs a worker, once that is up, and the pid of the worker's guard."""
    command = [sys.executable, "-c", REPLICA, PRELUDE + code]
    environment = environment_for_children(os.environ)
    replica = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, env=environment)
    assert replica.stdout is not None
    return replica, int(replica.stdout.readline())


def test_when_the_replica_is_killed_nothing_of_the_worker_survives(tmp_path: Path, mark: str) -> None:
    replica, _ = start_replica(tmp_path, "daemon();" + IGNORES_TERM)
    with replica:
        assert len(marked.alive(mark)) == 4  # the replica, the guard, the worker, the daemon
        replica.kill()
    assert marked.left_after(mark, within_s=2) == []


def test_when_replica_and_guard_are_killed_the_kernel_kills_the_worker(tmp_path: Path, mark: str) -> None:
    replica, guard = start_replica(tmp_path, IGNORES_TERM)
    with replica:
        replica.send_signal(signal.SIGSTOP)  # it cannot tidy up
        os.kill(guard, signal.SIGKILL)
        replica.kill()
    assert marked.left_after(mark, within_s=2) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_when_the_guard_is_lost_the_replica_kills_the_tree(
    tmp_path: Path, mark: str, number: int
) -> None:
    async with guarded(tmp_path, "daemon();" + IGNORES_TERM, silence_s=1.0) as process:
        await first_message(process)
        os.kill(process.pid, number)
        ended = await process.wait()
    assert (ended.cause, ended.reaped) == (Cause.GUARD_LOST, True)
    assert marked.alive(mark) == []


async def test_a_guard_that_goes_on_after_a_short_pause_is_not_lost(tmp_path: Path, mark: str) -> None:
    async with guarded(tmp_path, "tell(up=1); sys.stdin.readline()", silence_s=2.0) as process:
        await first_message(process)
        os.kill(process.pid, signal.SIGSTOP)
        await asyncio.sleep(1.2)  # longer than half of the bound
        os.kill(process.pid, signal.SIGCONT)
        process.send(b"go on\n")
        assert (await process.wait()).cause is Cause.EXIT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_terminals_signals_do_not_end_the_guard(tmp_path: Path, mark: str, number: int) -> None:
    async with guarded(tmp_path, "tell(up=1); sys.exit(len(sys.stdin.readline()))") as process:
        await first_message(process)
        os.kill(process.pid, number)
        process.send(b"1234\n")
        ended = await process.wait()
    assert (ended.code, ended.cause) == (5, Cause.EXIT)


async def test_a_guard_is_in_a_session_of_its_own_and_so_is_its_worker(tmp_path: Path, mark: str) -> None:
    async with guarded(tmp_path, "tell(sid=os.getsid(0), pid=os.getpid()); time.sleep(1000)") as process:
        said = await first_message(process)
        assert said["sid"] == said["pid"]
        assert len({said["sid"], os.getsid(process.pid), os.getsid(0)}) == 3


async def test_a_guard_needs_less_than_15_mb(tmp_path: Path, mark: str) -> None:
    async with guarded(tmp_path, SLEEPS, deadline=boottime() + 60) as process:
        await first_message(process)
        process.set_deadline(boottime() + 90)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert (
            next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
            < 15_000_000
        )


async def test_a_command_that_does_not_exist_is_reported(tmp_path: Path, mark: str) -> None:
    command = ["/no/such/program"]
    async with GuardedProcess(
        command, log_path=tmp_path / "log", cwd=tmp_path, deadline=None, grace_s=1.0
    ) as process:
        ended = await process.wait()
    assert ended.cause is Cause.FAILED
    assert "/no/such/program" in ended.reason
    assert marked.alive(mark) == []


def raw_guard(program: list[str], code: str, order: bytes) -> dict[str, Any]:
    """The last report of a guard that is spoken to directly, once its worker is up."""
    read, write = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    errors = os.dup(2)
    worker = [sys.executable, "-I", "-S", "-c", PRELUDE + code, str(write)]
    descriptors = f"{null},{errors},{errors},{write}"
    command = [sys.executable, "-I", "-S", *program, "none", "5.0", "none", "", descriptors, *worker]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(write, null, errors)
    ) as guard:
        os.close(write)
        os.close(null)
        os.close(errors)
        assert os.read(read, 100) == b'{"up": 1}\n'
        os.close(read)
        reports, _ = guard.communicate(order, timeout=10)
    last: dict[str, Any] = json.loads(reports.splitlines()[-1])
    return last


@pytest.mark.parametrize("order", [b"", b"no json\n", b'{"deadline": "soon"}\n'])
def test_a_guard_that_cannot_understand_its_replica_kills(mark: str, order: bytes) -> None:
    last = raw_guard([str(start_guard.__file__)], IGNORES_TERM, order)
    assert (last["cause"], last["reaped"]) == ("replica", True)
    assert marked.alive(mark) == []


def test_the_workers_process_group_dies_without_a_walk_through_proc(mark: str) -> None:
    # A process that forks fast enough is never where the walk has seen it; here the walk sees nothing.
    folder = str(Path(str(guard_program.__file__)).parent)
    blind = f"import sys; sys.path.append({folder!r}); import guard; guard.descendants = lambda root: []; "
    program = ["-c", blind + "guard.REAP_BOUND_S = 2.0; guard.main(sys.argv[1:])"]
    leaves_one_behind = "\nif os.fork() == 0: time.sleep(1000)\ntell(up=1)"
    last = raw_guard(program, leaves_one_behind, b"")
    assert last["reaped"]
    assert marked.left_after(mark, within_s=1) == []


@pytest.mark.parametrize(
    ("turns", "pause_s"), [*((n, 0.0) for n in range(9)), *((5, n / 50) for n in range(1, 7))]
)
async def test_cancelled_anywhere_it_leaves_neither_descriptors_nor_processes(
    tmp_path: Path, mark: str, turns: int, pause_s: float
) -> None:
    async def use() -> None:
        async with guarded(tmp_path, "daemon();" + IGNORES_TERM, grace_s=0.05) as process:
            await first_message(process)
            await process.wait()

    before = open_descriptors()
    task = asyncio.create_task(use())
    for _ in range(turns):
        await asyncio.sleep(pause_s)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # an impatient second time
    with pytest.raises(asyncio.CancelledError):
        await task
    assert marked.alive(mark) == []
    assert open_descriptors() == before
