"""One attempt of a run, from its request to the certainty that its processes are gone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from leaderjob.clock import boottime
from leaderjob.durations import format_duration
from leaderjob.execution.ahead import WorkerAhead
from leaderjob.execution.guarded import Cause, Exit, StartFailed
from leaderjob.execution.messages import (
    WORKER,
    AsksToRetry,
    CameLate,
    End,
    ProgressMade,
    ProtocolBroken,
    Raised,
    Returned,
    read,
)
from leaderjob.execution.process import GuardedProcess, signal_name
from leaderjob.execution.protocol import WorkerRequest
from leaderjob.execution.trust import finite, pass_on_trust
from leaderjob.model.run import Outcome, Progress
from leaderjob.model.text import printable
from leaderjob.sdk import Json
from leaderjob.telemetry.trace import Trace

_TOO_LATE = "the term could not be trusted any more: no worker was started"


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended.

    :param reason: a sentence for people; None if it succeeded.
    :param traceback: of the job's own frames, if it raised.
    :param result: what the job returned.
    :param retry_after_s: the job asked to be tried again after so many seconds.
    :param permanent: the job asked not to be tried again.
    :param max_rss_bytes: the largest of its processes at its peak, if that is known.
    :param reaped: no process of the attempt is left.
    """

    outcome: Outcome
    reason: str | None = None
    traceback: Trace | None = None
    result: Json = None
    retry_after_s: float | None = None
    permanent: bool = False
    max_rss_bytes: int | None = None
    reaped: bool = True


@dataclass(frozen=True, slots=True)
class Heard:
    """What the worker said: its last message, and what was wrong with a message, if one was."""

    end: End | None = None
    problem: str | None = None


async def run_attempt(
    request: WorkerRequest,
    worker: WorkerAhead,
    *,
    timeout_s: float,
    trusted_until: Callable[[], float],
    on_progress: Callable[[Progress], None],
    on_gone: Callable[[bool], None] = lambda reaped: None,
) -> AttemptEnd:
    """Give a guarded worker its job, and see to its end.

    When this returns or raises, no process of the attempt is left, unless ``reaped`` is false. If the
    calling task is cancelled, the worker gets TERM, then KILL after its grace, and the cancellation is
    raised once it is gone.

    :param timeout_s: how long the attempt may take; then TERM, and KILL after the grace.
    :param trusted_until: the instant of ``CLOCK_BOOTTIME`` at which all its processes have to be dead
        (TERM comes a grace before); asked four times a second, ``inf`` means never.
    :param on_progress: called in this task's loop, at most ten times a second.
    :param on_gone: told at the end, also where this is cancelled, whether no process is left.
    """
    try:
        process = await worker.process()
    except StartFailed as error:
        return AttemptEnd(Outcome.FAILED, str(error))
    trust = finite(trusted_until())
    if trust is not None and boottime() >= trust:
        return AttemptEnd(Outcome.ABANDONED, _TOO_LATE)
    try:
        async with _closing(process), asyncio.TaskGroup() as group:
            process.set_deadline(trust)  # first: who gets the request has a deadline
            process.send(replace(request, start_before=trust).to_line())
            process.end_input()
            listening = group.create_task(_listen(process, on_progress))
            trusting = group.create_task(pass_on_trust(process, trust, trusted_until))
            limiting = group.create_task(_stop_in_time(process, timeout_s, worker.grace_s))
            ended = await process.wait()
            timed_out = limiting.done()
            trusting.cancel()
            limiting.cancel()
    finally:
        on_gone(worker.is_gone)
    return judge(ended, listening.result(), timeout_s=timeout_s if timed_out else None)


@asynccontextmanager
async def _closing(process: GuardedProcess) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await process.close()


async def _listen(process: GuardedProcess, on_progress: Callable[[Progress], None]) -> Heard:
    end = problem = None
    try:
        async for message in process.messages():
            said = _understood(message)
            if isinstance(said, ProgressMade):
                on_progress(Progress(done=said.done, total=said.total, message=printable(said.message)))
            elif said is not None:
                end = said
    except ProtocolBroken as error:
        problem = str(error)
    if problem is None:
        return Heard(end)
    process.kill()
    return Heard(end, f"the worker broke the protocol: {problem}")


def _understood(message: dict[str, Json]) -> ProgressMade | End | None:
    """None: progress that makes no sense, which costs nothing but itself. :raises ProtocolBroken: anything else is wrong."""
    try:
        return read(WORKER, message)
    except ProtocolBroken:
        if message.get("type") == "progress":
            return None
        raise


async def _stop_in_time(process: GuardedProcess, timeout_s: float, grace_s: float) -> None:
    await asyncio.sleep(timeout_s)
    process.stop(grace_s)


def judge(ended: Exit, heard: Heard, *, timeout_s: float | None) -> AttemptEnd:
    """What an attempt amounts to.

    A job that came to its end before it was asked to stop has the outcome that it says, whatever was
    about to happen to it. After that, what it says does not count: a function that returns early because
    it was asked to has left half of its work undone.

    :param timeout_s: the timeout, if it has passed.
    """
    end = heard.end
    outcome: Outcome
    reason: str | None = None
    if heard.problem is not None:
        outcome, reason = Outcome.FAILED, heard.problem
    elif isinstance(end, CameLate):
        outcome, reason = Outcome.ABANDONED, _TOO_LATE
    elif end is not None and not end.stopping and (ended.code == 0 or not isinstance(end, Returned)):
        return _as_told(end, ended)
    elif timeout_s is not None:
        outcome, reason = (
            Outcome.TIMED_OUT,
            f"it took longer than its timeout of {format_duration(timeout_s)}",
        )
    else:
        outcome, reason = _interrupted(ended, end)
    return AttemptEnd(
        outcome,
        reason,
        traceback=_trace(end),
        max_rss_bytes=ended.max_rss_bytes,
        reaped=ended.reaped,
    )


def _as_told(end: Returned | Raised | AsksToRetry, ended: Exit) -> AttemptEnd:
    succeeded = isinstance(end, Returned)
    return AttemptEnd(
        Outcome.SUCCEEDED if succeeded else Outcome.FAILED,
        None if isinstance(end, Returned) else end.reason,
        traceback=_trace(end),
        result=end.value if isinstance(end, Returned) else None,
        retry_after_s=end.delay_s if isinstance(end, AsksToRetry) else None,
        permanent=isinstance(end, Raised) and end.kind == "permanent",
        max_rss_bytes=ended.max_rss_bytes,
        reaped=ended.reaped,
    )


def _trace(end: End | None) -> Trace | None:
    return Trace.told(end.traceback, end.exceptions) if isinstance(end, Raised | AsksToRetry) else None


def _interrupted(ended: Exit, end: End | None) -> tuple[Outcome, str]:
    if ended.cause is Cause.EXIT:
        if end is not None and end.stopping:
            return Outcome.CANCELLED, "the worker was sent SIGTERM, and not by leaderjob"
        return Outcome.FAILED, _died(ended, end)
    return {
        Cause.REFUSED: (Outcome.ABANDONED, _TOO_LATE),
        Cause.DEADLINE: (Outcome.ABANDONED, "the term could not be trusted any more: the worker was stopped"),
        Cause.STOP: (Outcome.CANCELLED, "the worker was asked to stop"),
        Cause.REPLICA: (Outcome.CANCELLED, "the worker was stopped with its replica"),
        Cause.FAILED: (Outcome.FAILED, f"the worker did not start: {ended.reason}"),
        Cause.GUARD_LOST: (Outcome.FAILED, f"{ended.reason}: the worker was killed, to be safe; try again"),
    }[ended.cause]


def _died(ended: Exit, end: End | None) -> str:
    when = "" if end is None else "after the job's function had ended, its process was "
    if ended.signal is None:
        if end is None:
            return (
                f"the worker exited with status {ended.code} and without a result: its code called os._exit, "
                "or closed the descriptor of its results, or its interpreter failed; the attempt's log may say more"
            )
        return f"after the job's function had ended, its process exited with status {ended.code}"
    why = {
        "SIGKILL": f": the kernel's out-of-memory killer does this; peak memory was {_mebibytes(ended)}",
        "SIGSEGV": ": native code crashed; the attempt's log may say more",
        "SIGABRT": ": native code gave up; the attempt's log may say more",
    }
    name = signal_name(ended.signal)
    return f"{when}killed by {name}{why.get(name, '')}"


def _mebibytes(ended: Exit) -> str:
    return "unknown" if ended.max_rss_bytes is None else f"{ended.max_rss_bytes / 2**20:.0f} MiB"
