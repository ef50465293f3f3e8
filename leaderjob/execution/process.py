"""The replica's side of one guard and its worker: start, deadline, stop, messages, and a sure end."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.errors import LeaderjobError
from leaderjob.execution import start_guard
from leaderjob.execution.attestation import Attestation
from leaderjob.execution.cgroup import make_cgroup, remove_cgroup
from leaderjob.execution.protocol import LINE_LIMIT_BYTES, encode
from leaderjob.execution.sweep import MARK, new_mark, sweep
from leaderjob.modules import environment_for_children
from leaderjob.sdk import Json

SILENCE_BOUND_S = 3.0


class StartFailed(LeaderjobError):
    """A worker could not be started; the message says why."""


class ProtocolBroken(LeaderjobError):
    """A worker sent something that is not a message: job code wrote to a descriptor that is not its own."""


class Cause(StrEnum):
    """Who began the end of a worker."""

    EXIT = "exit"
    STOP = "stop"
    DEADLINE = "deadline"
    REPLICA = "replica"
    REFUSED = "refused"
    FAILED = "failed"
    GUARD_LOST = "guard_lost"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended.

    :param code: its exit status, or None if it was killed or never started.
    :param signal: the number of the signal that killed it.
    :param reaped: no process of it is left, however it forked.
    :param max_rss_bytes: the largest of its processes at its peak.
    """

    code: int | None
    signal: int | None
    reaped: bool
    max_rss_bytes: int | None
    cause: Cause
    reason: str = ""


class GuardedProcess:
    """One guard with its worker, as an async context manager: on the way out nothing of them is left.

    :param command: what to run; the number of the descriptor for its messages is appended.
    :param log_path: file to which the worker's standard output and error are appended.
    :param cwd: the worker's current directory.
    :param deadline: instant of ``CLOCK_BOOTTIME`` at which the guard kills everything, or None.
    :param grace_s: from TERM to KILL, before the deadline and on the way out.
    :param silence_s: how long the guard may be silent before it counts as lost.
    :param attestation: where the guard attests after this process's death that nothing is left.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        cwd: Path,
        deadline: float | None,
        grace_s: float,
        silence_s: float = SILENCE_BOUND_S,
        attestation: Attestation | None = None,
    ) -> None:
        self._attestation = attestation
        self._command = tuple(command)
        self._log_path = log_path
        self._cwd = cwd
        self._deadline = deadline
        self._grace_s = grace_s
        self._silence_s = silence_s
        self._mark = new_mark()
        self._cgroup: Path | None = None
        self._guard: asyncio.subprocess.Process | None = None
        self._follower: asyncio.Task[None] | None = None
        self._exit: asyncio.Future[Exit] | None = None
        self._received: asyncio.StreamReader | None = None
        self._source: asyncio.ReadTransport | None = None
        self._sink: asyncio.WriteTransport | None = None

    async def __aenter__(self) -> Self:
        """:raises StartFailed: the guard cannot be started, or the log cannot be opened."""
        try:
            await uninterrupted(self._start())
        except OSError as error:  # out of descriptors, when the guard runs already
            await self.close()
            raise StartFailed(f"cannot start a worker process: {error}") from error
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pid(self) -> int:
        """The guard's process id."""
        return self._started_guard.pid

    def send(self, line: bytes) -> None:
        """Give the worker a line on its standard input. A worker that is gone does not read it."""
        if self._sink is not None and not self._sink.is_closing():
            self._sink.write(line)

    def end_input(self) -> None:
        """End the worker's standard input, after all that was sent."""
        if self._sink is not None and self._sink.can_write_eof() and not self._sink.is_closing():
            self._sink.write_eof()

    async def messages(self) -> AsyncIterator[dict[str, Json]]:
        """What the worker says, until no process of it holds the pipe any more.

        :raises ProtocolBroken: it is not a message, or longer than any message may be.
        """
        if self._received is None:
            raise RuntimeError("the process was not started")
        while True:
            try:
                line = await self._received.readline()
                if not line:
                    return
                message = json.loads(line)
            except ValueError as error:
                raise ProtocolBroken(f"the worker sent something that is not a message: {error}") from error
            if not isinstance(message, dict):
                raise ProtocolBroken(f"the worker sent {message!r}, which is not a message")
            yield message

    def set_deadline(self, deadline: float | None) -> None:
        """Move the instant of ``CLOCK_BOOTTIME`` at which the guard kills everything."""
        self._order({"deadline": deadline})

    def stop(self, grace_s: float) -> None:
        """TERM to the worker now; KILL to everything that is left after ``grace_s``."""
        self._order({"stop": grace_s})

    def kill(self) -> None:
        """KILL to everything now."""
        self.stop(0.0)

    @property
    def ended(self) -> Exit | None:
        """How it ended; None: it was never started, or has not ended yet."""
        return self._exit.result() if self._exit is not None and self._exit.done() else None

    async def wait(self) -> Exit:
        """Until every process is gone, or is known not to go."""
        if self._exit is None:
            raise RuntimeError("the process was not started")
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        """Stop what still runs, with grace, and wait for it; then release every descriptor.

        Being cancelled does not cut this short: the cancellation is raised when all is done.
        """
        await uninterrupted(self._close())

    @property
    def _started_guard(self) -> asyncio.subprocess.Process:
        if self._guard is None:
            raise RuntimeError("the process was not started")
        return self._guard

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as opened:

            def keep(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            try:
                self._cgroup = await asyncio.to_thread(make_cgroup, self._mark)
                self._log_path.parent.mkdir(parents=True, exist_ok=True)
                log = keep(os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640))
                input_read, input_write = map(keep, os.pipe())
                message_read, message_write = map(keep, os.pipe())
                self._guard = await asyncio.create_subprocess_exec(
                    *self._guard_command(input_read, log, message_write),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    pass_fds=(input_read, log, message_write, *self._listener),
                    cwd=self._cwd,
                    env=environment_for_children({**os.environ, MARK: self._mark}),
                    start_new_session=True,
                )
            except OSError as error:
                raise StartFailed(f"cannot start a worker process: {error}") from error
            self._exit = loop.create_future()
            if self._guard.stdout is not None:
                self._follower = loop.create_task(self._follow_guard(self._guard, self._guard.stdout))
            self._received = received = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
            # The transports own their descriptors: each gets a duplicate, the stack closes the originals.
            reading = os.fdopen(os.dup(message_read), "rb", buffering=0)
            self._source, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(received), reading
            )
            writing = os.fdopen(os.dup(input_write), "wb", buffering=0)
            self._sink, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writing)

    def _guard_command(self, stdin: int, output: int, messages: int) -> list[str]:
        deadline = "none" if self._deadline is None else repr(self._deadline)
        descriptors = (str(stdin), str(output), str(messages))
        program = [sys.executable, "-I", "-S", str(start_guard.__file__)]
        attest, attestation = "none", self._attestation
        if attestation is not None:
            attest = f"{attestation.listener.fileno()},{attestation.nonce},{attestation.stay_s!r}"
        cgroup = "" if self._cgroup is None else str(self._cgroup)
        options = (deadline, repr(self._grace_s), attest, cgroup)
        return [*program, *options, *descriptors, *self._command, str(messages)]

    @property
    def _listener(self) -> tuple[int, ...]:
        return () if self._attestation is None else (self._attestation.listener.fileno(),)

    def _order(self, order: Mapping[str, Json]) -> None:
        control = self._started_guard.stdin
        if control is not None and not control.is_closing():
            control.write(encode(dict(order)))

    async def _follow_guard(self, guard: asyncio.subprocess.Process, reports: asyncio.StreamReader) -> None:
        problem = "died"
        silences = 0
        try:
            while True:
                try:
                    async with asyncio.timeout(self._silence_s / 2):
                        line = await reports.readline()
                except TimeoutError:
                    # Two in a row: if this process itself was stopped meanwhile, one proves nothing.
                    silences += 1
                    if silences < 2:
                        continue
                    problem = "stopped answering"
                    break
                silences = 0
                if not line:
                    break
                report = _read_report(line)
                if report is not None:
                    self._conclude(report)
            if not self._has_ended:
                swept = await sweep(guard.pid, self._mark, group=self._cgroup)
                self._conclude(
                    Exit(None, None, swept, None, Cause.GUARD_LOST, f"the worker's guard {problem}")
                )
        finally:
            self._conclude(Exit(None, None, False, None, Cause.GUARD_LOST, "the worker's guard was given up"))

    @property
    def _has_ended(self) -> bool:
        return self._exit is not None and self._exit.done()

    def _conclude(self, ended: Exit) -> None:
        if self._exit is None or self._exit.done():
            return
        self._exit.set_result(ended)
        if not ended.reaped and self._source is not None:
            self._source.close()  # what does not die may hold the pipe open for ever

    async def _close(self) -> None:
        if self._guard is not None and self._exit is not None and self._follower is not None:
            if not self._exit.done():
                self.stop(self._grace_s)
            await self._exit
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            await self._guard.wait()
            await self._follower
        if self._cgroup is not None:
            remove_cgroup(self._cgroup)
        if self._source is not None:
            self._source.close()
        if self._sink is not None and not self._sink.is_closing():
            self._sink.abort()


def _read_report(line: bytes) -> Exit | None:
    """How the worker ended, if that is what the guard reports."""
    report = json.loads(line)
    kind = report["type"]
    if kind in (Cause.REFUSED, Cause.FAILED):
        return Exit(None, None, True, None, Cause(kind), report["reason"])
    if kind != "exited":
        return None
    status, code = report["status"], None
    if status is not None:
        code = os.waitstatus_to_exitcode(status)
    killed_by = -code if code is not None and code < 0 else None
    return Exit(
        code=code if killed_by is None else None,
        signal=killed_by,
        reaped=report["reaped"],
        max_rss_bytes=report["max_rss_bytes"],
        cause=Cause(report["cause"]),
    )


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def uninterrupted(work: Awaitable[None]) -> None:
    """Finish ``work`` even if the caller is cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    problem = None if task.cancelled() else task.exception()
    if cancelled is not None:
        raise cancelled from problem
    task.result()
