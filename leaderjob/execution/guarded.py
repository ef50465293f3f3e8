"""This process's side of one guard: start, deadline, stop, and a sure end of all that runs under it."""

import asyncio
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.errors import LeaderjobError
from leaderjob.execution import start_guard
from leaderjob.execution.attestation import Attestation
from leaderjob.execution.cgroup import make_cgroup, remove_cgroup
from leaderjob.execution.protocol import from_line, to_line
from leaderjob.execution.sweep import MARK, new_mark, sweep
from leaderjob.sdk import Json

SILENCE_BOUND_S = 3.0


class StartFailed(LeaderjobError):
    """A process could not be started under a guard; the message says why."""


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


class Guarded(ABC):
    """One guard and what runs under it, as an async context manager: on the way out nothing of them is left.

    :param command: what to run. :param cwd: its current directory; None: this process's own.
    :param deadline: instant of ``CLOCK_BOOTTIME`` at which the guard kills everything, or None.
    :param grace_s: from TERM to KILL on the way out. :param notice_s: from TERM to KILL before the deadline; None:
        ``grace_s``.
    :param silence_s: how long the guard may be silent before it counts as lost.
    :param attestation: where the guard attests after this process's death that nothing is left.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None,
        deadline: float | None,
        grace_s: float,
        notice_s: float | None = None,
        silence_s: float = SILENCE_BOUND_S,
        attestation: Attestation | None = None,
    ) -> None:
        self._attestation = attestation
        self._command = tuple(command)
        self._cwd = cwd
        self._deadline = deadline
        self._grace_s = grace_s
        self._notice_s = grace_s if notice_s is None else notice_s
        self._silence_s = silence_s
        self._mark = new_mark()
        self._cgroup: Path | None = None
        self._guard: asyncio.subprocess.Process | None = None
        self._follower: asyncio.Task[None] | None = None
        self._exit: asyncio.Future[Exit] | None = None

    async def __aenter__(self) -> Self:
        """:raises StartFailed: the guard cannot be started, or what it is to be given cannot be opened."""
        try:
            await uninterrupted(self._start())
        except OSError as error:  # out of descriptors, when the guard runs already
            await self.close()
            raise self._start_failed(error) from error
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

    @abstractmethod
    def _open(self, keep: Callable[[int], int]) -> tuple[int, ...]:
        """The descriptors for the standard input, output and error, and those that stay open under their own number.

        :param keep: takes each descriptor that is opened, and closes it once the guard has its own.
        """

    @abstractmethod
    async def _connect(self) -> None:
        """The guard runs: take this process's ends of what was opened, before they are closed."""

    @abstractmethod
    def _environment(self) -> dict[str, str]:
        """What it runs in, but for the mark."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Close what :meth:`_connect` took; called twice, and where that never happened."""

    def _start_failed(self, error: OSError) -> StartFailed:
        return StartFailed(f"cannot start {self._command[0]}: {error}")

    @property
    def _started_guard(self) -> asyncio.subprocess.Process:
        if self._guard is None:
            raise RuntimeError("the process was not started")
        return self._guard

    async def _start(self) -> None:
        with ExitStack() as opened:

            def keep(descriptor: int) -> int:
                opened.callback(os.close, descriptor)
                return descriptor

            try:
                self._cgroup = await asyncio.to_thread(make_cgroup, self._mark)
                descriptors = self._open(keep)
                self._guard = await asyncio.create_subprocess_exec(
                    *self._guard_command(descriptors),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=descriptors[2],
                    pass_fds=(*descriptors, *self._listener),
                    cwd=self._cwd,
                    env={**self._environment(), MARK: self._mark},
                    start_new_session=True,
                )
            except OSError as error:
                raise self._start_failed(error) from error
            self._exit = asyncio.get_running_loop().create_future()
            if self._guard.stdout is not None:
                self._follower = asyncio.create_task(self._follow_guard(self._guard, self._guard.stdout))
            await self._connect()

    def _guard_command(self, descriptors: tuple[int, ...]) -> list[str]:
        deadline = "none" if self._deadline is None else repr(self._deadline)
        program = [sys.executable, "-I", "-S", str(start_guard.__file__)]
        attest, attestation = "none", self._attestation
        if attestation is not None:
            attest = f"{attestation.listener.fileno()},{attestation.nonce},{attestation.stay_s!r}"
        cgroup = "" if self._cgroup is None else str(self._cgroup)
        options = (deadline, repr(self._notice_s), attest, cgroup, ",".join(map(str, descriptors)))
        return [*program, *options, *self._command, *map(str, descriptors[3:])]

    @property
    def _listener(self) -> tuple[int, ...]:
        return () if self._attestation is None else (self._attestation.listener.fileno(),)

    def _order(self, order: Mapping[str, Json]) -> None:
        control = self._started_guard.stdin
        if control is not None and not control.is_closing():
            control.write(to_line(dict(order)))

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
        if not ended.reaped:
            self._disconnect()  # what does not die may hold it open for ever

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
        self._disconnect()


def _read_report(line: bytes) -> Exit | None:
    """How the worker ended, if that is what the guard reports."""
    report = from_line(line)
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
