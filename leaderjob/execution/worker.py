"""Entry point of a worker: ``python -m leaderjob.execution.worker MESSAGES_FD``.

Reads one request, runs the job's function or coroutine, says how it ended. Standard output and error
are the attempt's log. Imports the SDK and the standard library only, so that a job's process has nothing
of ours in it that could get in its way. ``protocol.py`` describes the messages.
"""

import inspect
import sys
import time
from collections.abc import Awaitable
from contextlib import suppress

from leaderjob.execution.channel import Channel, Progress, Send
from leaderjob.execution.joblog import job_logger, set_up_log
from leaderjob.execution.protocol import LONGEST_DELAY_S, WorkerRequest, shorten
from leaderjob.execution.signals import StopRequest
from leaderjob.json_text import RESULT_LIMIT_BYTES, JsonTooLarge, encode
from leaderjob.modules import load_job, own_trace, program_arguments
from leaderjob.sdk import Job, JobContext, Json, Permanent, RetryLater
from leaderjob.telemetry.raised import message_of, name_of

End = tuple[dict[str, Json], bytes | None]
"""How the attempt ended, and the JSON of what the job returned."""


def main() -> None:
    channel = Channel(int(sys.argv[1]))
    stop = StopRequest()
    stop.install()
    set_up_log()
    request = WorkerRequest.from_line(sys.stdin.buffer.read())
    if request.start_before is not None and time.clock_gettime(time.CLOCK_BOOTTIME) >= request.start_before:
        channel.send({"type": "end", "kind": "late", "stopping": stop.requested})
        return
    end, value = attempt(request, channel.send, stop)
    channel.send({"type": "end", **end, "stopping": stop.requested}, value)


def attempt(request: WorkerRequest, send: Send, stop: StopRequest) -> End:
    """Run the job to its end, whichever that is. What comes back says how it ended.

    In a process that the job has forked, what the job's function raises is raised on, as in any program.
    """
    progress = Progress(send)
    try:
        sys.argv = program_arguments(request.reference)
        job = load_job(request.reference)
        context = JobContext(
            job=request.job,
            run_id=request.run_id,
            attempt=request.attempt,
            fencing_token=request.fencing_token,
            fire_time=request.fire_time,
            log=job_logger(request.job),
            _artifacts=request.artifact_dir,
            _previous=request.previous,
            _send=progress.report,
            _stopping=lambda: stop.requested,
        )
        end = _returned(_call(job, context, request.params, stop))
    except BaseException as error:
        if stop.in_fork:
            raise
        end = _raised(error)
    progress.flush()
    return end


def _call(job: Job, context: JobContext, params: dict[str, Json], stop: StopRequest) -> object:
    """What the job returns; None where it exits with success, as a program may."""
    try:
        value = job(context, **params)
        return _run(value, stop) if inspect.isawaitable(value) else value
    except SystemExit as error:
        if stop.in_fork or not _is_success(error):
            raise
        return None


def _run(awaitable: Awaitable[object], stop: StopRequest) -> object:
    """What a coroutine, or anything else that can be awaited, returns. SIGTERM cancels it."""
    # Costs a worker as much time to import as all else together, and few jobs are coroutines.
    import asyncio  # noqa: PLC0415

    async def awaited() -> object:
        return await awaitable

    async def cancelled_by_a_stop() -> object:
        loop = asyncio.get_running_loop()
        task = loop.create_task(awaited())
        stop.on_request = lambda: loop.call_soon_threadsafe(task.cancel)
        if stop.requested:
            task.cancel()
        try:
            return await task
        finally:
            stop.on_request = None

    return asyncio.run(cancelled_by_a_stop())


def _returned(value: object) -> End:
    try:
        return {"kind": "returned"}, encode(value, RESULT_LIMIT_BYTES)
    except JsonTooLarge as error:
        return _refused(
            f"the job's result is too large: {error}; write large results into ctx.artifact_dir()"
        )
    except Exception as error:  # noqa: BLE001 - subclasses of dict and list may raise anything
        return _refused(
            f"the job returned a value of type {type(value).__name__} that is not JSON: {message_of(error)}; return "
            "None, or text, finite numbers, booleans, lists and dictionaries, and write files into ctx.artifact_dir()"
        )


def _refused(reason: str) -> End:
    return {"kind": "raised", "reason": shorten(reason), "traceback": None}, None


def _raised(error: BaseException) -> End:
    try:
        return _described(error), None
    except BaseException as problem:  # noqa: BLE001 - exceptions are classes of the job's, and may do anything
        return _refused(f"the job raised an exception that cannot be described: {message_of(problem)}")


def _described(error: BaseException) -> dict[str, Json]:
    kind: dict[str, Json] = {"kind": "raised"}
    reason = f"{name_of(error)}: {message_of(error)}".removesuffix(": ")
    if isinstance(error, SystemExit):
        reason = _reason_of_exit(error)
    elif isinstance(error, RetryLater):
        reason = message_of(error) or name_of(error)
        delay_s = getattr(error, "delay_s", None)
        if isinstance(delay_s, int | float) and 0 <= delay_s <= LONGEST_DELAY_S:
            kind = {"kind": "retry_later", "delay_s": float(delay_s)}
    elif isinstance(error, Permanent):
        kind = {"kind": "permanent"}
        reason = message_of(error) or name_of(error)
    return {**kind, "reason": shorten(reason), **own_trace(error)}


def _is_success(error: SystemExit) -> bool:
    return error.code is None or (isinstance(error.code, int) and error.code == 0)


def _reason_of_exit(error: SystemExit) -> str:
    if isinstance(error.code, int):
        return f"the job called sys.exit({int(error.code)}): only 0 means success"
    message = message_of(error)
    with suppress(Exception):  # the job may have closed it
        print(message, file=sys.stderr)  # noqa: T201 - as the interpreter does
    return f"the job called sys.exit() with a message: {message}"


if __name__ == "__main__":
    main()
