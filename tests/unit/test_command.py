"""What a command under a guard may count on, and what whoever runs it may."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import boottime
from leaderjob.execution.command import CommandLost, CommandNotGone, CommandNotRun, run_command
from tests.support import marked
from tests.support.commands import environment
from tests.support.loop import run_async
from tests.support.undying import undying


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", "import os, signal, sys, time\n" + code]


def run(code: str, **options: Any) -> int:
    return run_async(run_command(python(code), **options))


class Told:
    """A pipe of which a command knows the path."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "told"
        os.mkfifo(self.path)
        self._read = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    async def line(self) -> bytes:
        """What it says next."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._read, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._read)
        return os.read(self._read, 100)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def says(told: Told, word: str) -> str:
    return f"os.write(os.open({str(told.path)!r}, os.O_WRONLY), b'{word}')"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("pass", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGUSR1)", 128 + signal.SIGUSR1)],
)
def test_its_exit_code_is_a_shells(code: str, expected: int) -> None:
    assert run(code) == expected


def test_its_output_and_its_errors_stay_apart(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("print('out'); print('err', file=sys.stderr)") == 0
    assert capfd.readouterr() == ("out\n", "err\n")


@pytest.mark.parametrize("size_bytes", [0, 5, 1 << 20])
def test_it_reads_the_bytes_that_it_is_given(size_bytes: int) -> None:
    assert run(f"sys.exit(len(sys.stdin.buffer.read()) != {size_bytes})", stdin=b"x" * size_bytes) == 0


def test_it_need_not_read_what_it_is_given() -> None:
    assert run("sys.exit(3)", stdin=b"x" * (1 << 20)) == 3


def test_it_reads_what_this_process_would_read_and_sees_its_environment(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from leaderjob.execution.command import run_command\n"
        "sys.exit(asyncio.run(run_command(sys.argv[1:], environment={'LEADERJOB_FENCING_TOKEN': '7'})))"
    )
    inner = python(
        "print(sys.stdin.read(), os.environ['LEADERJOB_FENCING_TOKEN'], os.environ['LEADERJOB_SETTING'],"
        " os.getcwd(), sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *inner, "a b", "--"],
        input="asked",
        env=environment(LEADERJOB_SETTING="kept"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"asked 7 kept {tmp_path} ['a b', '--']\n"


@pytest.mark.parametrize(
    "closed", [*(pytest.param((n,), marks=pytest.mark.slow) for n in range(3)), (0, 1, 2)]
)
def test_it_runs_where_standard_streams_are_closed(closed: tuple[int, ...]) -> None:
    program = (
        f"import os; [os.close(n) for n in {closed}]\n"
        "import asyncio, sys; from leaderjob.execution.command import run_command\n"
        "os._exit(asyncio.run(run_command(sys.argv[1:])))"
    )
    command = [sys.executable, "-c", program, *python("os.fstat(0), os.fstat(1), os.fstat(2); sys.exit(9)")]
    assert subprocess.run(command, env=environment(), check=False).returncode == 9


@pytest.mark.parametrize("command", [["/no/such/program"], ["no-such-program"], ["/etc"], []])
async def test_a_command_that_cannot_be_run_is_an_error_of_its_own(command: list[str]) -> None:
    with pytest.raises(CommandNotRun) as raised:
        await run_command(command)
    assert raised.value.exit_code == 127
    assert all(word in str(raised.value) for word in command)


def test_nothing_of_it_is_left_at_its_end(mark: str) -> None:
    assert run("if os.fork() == 0: os.setsid(); time.sleep(1000)") == 0
    assert marked.alive(mark) == []


async def test_it_is_dead_when_trust_ends_and_had_its_notice(told: Told, mark: str) -> None:
    code = f"signal.signal(signal.SIGTERM, lambda *_: {says(told, 'term')}); {says(told, 'up')}\nwhile True: time.sleep(1000)"
    until = boottime() + 60
    running = asyncio.create_task(
        run_command(python(code), trusted_until=lambda: until, notice_s=0.4, grace_s=30)
    )
    assert await told.line() == b"up"
    until = boottime() + 1.5
    assert await told.line() == b"term"
    term_at = boottime()
    with pytest.raises(CommandLost, match="was stopped"):
        await running
    assert until - 0.4 <= term_at < until
    assert boottime() >= until
    assert marked.alive(mark) == []


@pytest.mark.timeout_s(9)
async def test_who_heeds_the_notice_and_ends_with_zero_has_not_come_to_its_end(told: Told) -> None:
    code = f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); {says(told, 'up')}; time.sleep(1000)"
    until = boottime() + 60
    running = asyncio.create_task(
        run_command(python(code), trusted_until=lambda: until, notice_s=20, grace_s=30)
    )
    assert await told.line() == b"up"
    until = boottime() + 10
    with pytest.raises(CommandLost, match="was stopped"):
        await running


@pytest.mark.timeout_s(20)
async def test_its_grace_may_be_longer_than_trust_lasts_without_another_keepalive(told: Told) -> None:
    code = f"signal.signal(signal.SIGTERM, lambda *_: (time.sleep(2.5), {says(told, 'done')}, sys.exit(0)))"
    running = asyncio.create_task(
        run_command(
            python(f"{code}; {says(told, 'up')}; time.sleep(1000)"),
            trusted_until=lambda: boottime() + 1.5,
            notice_s=0.1,
            grace_s=30,
        )
    )
    assert await told.line() == b"up"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await told.line() == b"done"


def test_it_is_not_started_once_trust_has_ended(told: Told) -> None:
    with pytest.raises(CommandLost, match="not trusted any more"):
        run(says(told, "ran"), trusted_until=lambda: boottime() - 0.001)


@pytest.mark.parametrize("ignores", [False, True])
async def test_cancelled_it_is_asked_to_stop_and_killed_after_the_grace(
    told: Told, mark: str, ignores: bool
) -> None:
    handler = "signal.SIG_IGN" if ignores else "lambda *_: sys.exit(" + says(told, "term") + ")"

    code = f"signal.signal(signal.SIGTERM, {handler}); {says(told, 'up')}; time.sleep(1000)"
    running = asyncio.create_task(run_command(python(code), grace_s=0.3))
    assert await told.line() == b"up"
    cancelled_at = boottime()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    if not ignores:
        assert await told.line() == b"term"
    took_s = boottime() - cancelled_at
    assert marked.alive(mark) == []
    assert (took_s >= 0.3) == ignores


async def test_it_dies_with_the_process_that_runs_it(told: Told, mark: str) -> None:
    program = (
        "import asyncio, sys; from leaderjob.execution.command import run_command\n"
        "asyncio.run(run_command(sys.argv[1:]))"
    )
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {says(told, 'up')}; time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", program, *python(code)], env=environment()) as outer:
        assert await told.line() == b"up"
        outer.kill()
    assert marked.left_after(mark, within_s=5) == []


async def test_where_its_guard_is_killed_it_is_killed_too_and_that_is_an_error(told: Told, mark: str) -> None:
    code = f"{says(told, 'up')}; time.sleep(1000)"
    running = asyncio.create_task(run_command(python(code)))
    assert await told.line() == b"up"
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    guard = next(int(pid) for pid in children if is_guard(pid))
    os.kill(guard, signal.SIGKILL)
    with pytest.raises(CommandLost, match="it was killed"):
        await running
    assert marked.alive(mark) == []


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_it_started_and_does_not_die_is_an_error_however_it_ended(
    told: Told, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    undying(monkeypatch)

    ends = "time.sleep(1000)" if cancelled else "pass"
    running = asyncio.create_task(run_command(python(f"{says(told, 'up')}; {ends}"), grace_s=0.1))
    assert await told.line() == b"up"
    if cancelled:
        running.cancel()
    with pytest.raises(CommandNotGone, match="may still run"):
        await running


def is_guard(pid: str) -> bool:
    return b"start_guard" in Path(f"/proc/{pid}/cmdline").read_bytes()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("stdin", [pytest.param(None, marks=pytest.mark.slow), b"x" * (1 << 20)])
@pytest.mark.parametrize(
    ("turns", "pause"), [*((n, 0.0) for n in range(0, 9, 2)), *((1, n / 50) for n in range(1, 6, 2))]
)
async def test_cancelled_anywhere_it_leaves_neither_descriptors_nor_processes(
    mark: str, turns: int, pause: float, stdin: bytes | None
) -> None:
    before = descriptors()
    running = asyncio.create_task(run_command(python("time.sleep(1000)"), stdin=stdin, grace_s=0.2))
    for _ in range(turns):
        await asyncio.sleep(pause)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert descriptors() == before
    assert marked.alive(mark) == []


@pytest.mark.timeout_s(20)
async def test_cancelled_because_trust_has_ended_it_has_no_grace(told: Told, mark: str) -> None:
    until = float("inf")
    code = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {says(told, 'up')}; time.sleep(1000)"
    running = asyncio.create_task(run_command(python(code), trusted_until=lambda: until, grace_s=30))
    assert await told.line() == b"up"
    until = 0.0
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert marked.alive(mark) == []
