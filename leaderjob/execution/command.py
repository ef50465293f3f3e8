"""Any command under a guard, with this process's own standard streams: a singleton, or what a lock protects."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence

from leaderjob.errors import LeaderjobError
from leaderjob.execution.guarded import Cause, Exit, Guarded
from leaderjob.execution.trust import finite, pass_on_trust

_NO_ENVIRONMENT: Mapping[str, str] = {}


class CommandNotRun(LeaderjobError):
    """The command does not exist, or may not be run; the exit code is a shell's."""

    exit_code = 127


class CommandLost(LeaderjobError):
    """The command was not run to its end, through no fault of its own."""


class CommandNotGone(LeaderjobError):
    """Something that the command started could not be killed, or nobody knows whether it was."""

    def __init__(self, command: str) -> None:
        super().__init__(
            f"something that {command} started may still run: it was killed and does not die, as what waits for a broken disk "
            "does not (D in ps -eo pid,stat,args). If it had a lock, an office or an item, that is not given back, and runs "
            "out by itself; see that all of it is gone before you start it again"
        )


def _never() -> float:
    return float("inf")


async def run_command(
    command: Sequence[str],
    *,
    trusted_until: Callable[[], float] = _never,
    grace_s: float = 5.0,
    notice_s: float | None = None,
    stdin: bytes | None = None,
    environment: Mapping[str, str] = _NO_ENVIRONMENT,
) -> int:
    """Run a command to its end, with this process's standard output and error; returns its exit code, 128 + N where
    signal N ended it.

    When this returns or raises, neither it nor anything that it started is left, unless it raises
    :class:`CommandNotGone`; also when this process dies, however that happens. It runs in a session of its own: a Ctrl-C in the terminal goes to this process alone. If
    the calling task is cancelled the command gets TERM, then KILL after the grace, and the cancellation is raised
    once all is gone.

    :param trusted_until: the instant of ``CLOCK_BOOTTIME`` at which all of it has to be dead; asked four times a
        second.
    :param grace_s: from TERM to KILL. :param notice_s: how long before ``trusted_until`` it gets TERM; None: the
        grace.
    :param stdin: what it reads on its standard input; None: what this process would read.
    :param environment: added to this process's.
    :raises CommandNotRun: there is no such command. :raises CommandLost: the deadline had passed before it began, or
        came too near, or its guard died (then it was killed). :raises StartFailed: the guard cannot be started.
    :raises CommandNotGone: something of it may be left; in place of whatever else there would be to raise.
    """
    if not command:
        raise CommandNotRun("no command is given: say what to run")
    trust = finite(trusted_until())
    guarded = _GuardedCommand(
        command, deadline=trust, grace_s=grace_s, notice_s=notice_s, stdin=stdin, environment=environment
    )
    trusting: asyncio.Task[None] | None = None
    try:
        async with guarded:
            trusting = asyncio.create_task(pass_on_trust(guarded, trust, trusted_until))
            try:
                return _exit_code(command[0], await guarded.wait())
            finally:
                guarded.set_deadline(finite(trusted_until()))  # what is cancelled because of it has no grace
    finally:
        if trusting is not None:  # only now: its grace may be longer than what is trusted without a keepalive
            trusting.cancel()
        if guarded.ended is not None and not guarded.ended.reaped:
            raise CommandNotGone(command[0])


class _GuardedCommand(Guarded):
    def __init__(
        self,
        command: Sequence[str],
        *,
        deadline: float | None,
        grace_s: float,
        notice_s: float | None,
        stdin: bytes | None,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(command, cwd=None, deadline=deadline, grace_s=grace_s, notice_s=notice_s)
        self._stdin = stdin
        self._more = environment
        self._input_write = -1
        self._sink: asyncio.WriteTransport | None = None

    def _open(self, keep: Callable[[int], int]) -> tuple[int, ...]:
        if self._stdin is None:
            stdin = keep(_own(0, os.O_RDONLY))
        else:
            stdin, self._input_write = map(keep, os.pipe())
        return stdin, keep(_own(1, os.O_WRONLY)), keep(_own(2, os.O_WRONLY))

    async def _connect(self) -> None:
        if self._stdin is None:
            return
        writing = os.fdopen(os.dup(self._input_write), "wb", buffering=0)
        loop = asyncio.get_running_loop()
        self._sink, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writing)
        self._sink.write(self._stdin)
        self._sink.write_eof()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self._more}

    def _disconnect(self) -> None:
        sink = self._sink
        if sink is not None and not (sink.is_closing() and sink.get_write_buffer_size() == 0):
            sink.abort()


def _own(number: int, flags: int) -> int:
    """A duplicate of one of this process's standard streams, numbered above all three; where it was closed, nothing
    is read or written."""
    try:
        return _above_standard(os.dup(number))
    except OSError:
        return _above_standard(os.open(os.devnull, flags))


def _above_standard(descriptor: int) -> int:
    if descriptor > 2:
        return descriptor
    try:
        return _above_standard(os.dup(descriptor))
    finally:
        os.close(descriptor)


def _exit_code(command: str, ended: Exit) -> int:
    if ended.cause is Cause.FAILED:
        raise CommandNotRun(f"{ended.reason}; nothing was run. Check its name and that it may be executed")
    if ended.cause is Cause.REFUSED:
        raise CommandLost(f"{command} was not started: what it was to run under is not trusted any more")
    if ended.cause in (Cause.DEADLINE, Cause.REPLICA):
        # Its exit code says nothing: one that heeds TERM, and ends with 0, has left half of its work undone.
        raise CommandLost(
            f"{command} was stopped: what it ran under was not trusted for long enough any more"
        )
    if ended.cause is Cause.GUARD_LOST:
        raise CommandLost(
            f"{command} did not come to its end: {ended.reason}, and it was killed; run it again"
        )
    if ended.signal is not None:
        return 128 + ended.signal
    return 1 if ended.code is None else ended.code
