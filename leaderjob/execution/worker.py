"""Entry point of a worker: ``python -m leaderjob.execution.worker MESSAGES_FD``.

Reads one request, runs the job's function or coroutine, says how it ended. Standard output and error
are the attempt's log. Imports the SDK and the standard library only, so that a job's process has nothing
of ours in it that could get in its way. ``protocol.py`` describes the messages.
"""

import inspect
import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from leaderjob.execution.channel import Channel, Progress, Send
from leaderjob.execution.joblog import set_up_log
from leaderjob.execution.protocol import RESULT_LIMIT_BYTES, WorkerRequest, encode, shorten
from leaderjob.modules import load_job, own_trace
from leaderjob.sdk import JobContext, Json, Permanent, RetryLater


class StopRequest:
    """Whether SIGTERM has arrived, and what is to be done at that moment (cancel a coroutine)."""

    def __init__(self) -> None:
        self.requested = False
        self.on_request: Callable[[], object] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self.on_request is not None:
            self.on_request()


def main() -> None:
    channel = Channel(int(sys.argv[1]))
    stop = StopRequest()
    signal.signal(signal.SIGTERM, stop)
    set_up_log()
    request = WorkerRequest.from_line(sys.stdin.buffer.read())
    if request.start_before is not None and time.clock_gettime(time.CLOCK_BOOTTIME) >= request.start_before:
        channel.send({"type": "end", "kind": "late", "stopping": stop.requested})
        return
    channel.send({"type": "end", **attempt(request, channel.send, stop), "stopping": stop.requested})


def attempt(request: WorkerRequest, send: Send, stop: StopRequest) -> dict[str, Json]:
    """Run the job to its end, whichever that is. What comes back says how it ended."""
    progress = Progress(send)
    try:
        job = load_job(request.reference)
        context = JobContext(
            job=request.job,
            run_id=request.run_id,
            attempt=request.attempt,
            fencing_token=request.fencing_token,
            fire_time=request.fire_time,
            log=logging.getLogger(f"job.{request.job}"),
            _artifacts=request.artifact_dir,
            _previous=request.previous,
            _send=progress.report,
            _stopping=lambda: stop.requested,
        )
        value = job(context, **request.params)
        if inspect.iscoroutine(value):
            value = _run(value, stop)
        end = _returned(value)
    except RetryLater as error:
        end = _retry_later(error)
    except Permanent as error:
        end = {"kind": "permanent", "reason": _text(error), **own_trace(error)}
    except BaseException as error:  # noqa: BLE001 - the author's code may raise anything: that is the outcome
        end = {"kind": "raised", "reason": _reason(error), **own_trace(error)}
    progress.flush()
    return end


def _run(coroutine: Coroutine[Any, Any, object], stop: StopRequest) -> object:
    """What the coroutine returns. SIGTERM cancels it."""
    # Costs a worker as much time to import as all else together, and few jobs are coroutines.
    import asyncio  # noqa: PLC0415

    async def cancelled_by_a_stop() -> object:
        loop = asyncio.get_running_loop()
        task = loop.create_task(coroutine)
        stop.on_request = lambda: loop.call_soon_threadsafe(task.cancel)
        if stop.requested:
            task.cancel()
        try:
            return await task
        finally:
            stop.on_request = None

    return asyncio.run(cancelled_by_a_stop())


def _returned(value: object) -> dict[str, Json]:
    try:
        size_bytes = len(encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        return _refused(
            f"the job returned a value that is not JSON ({type(value).__name__}: {error}): return None, or "
            "strings, finite numbers, booleans, lists and dictionaries; files go into ctx.artifact_dir()"
        )
    if size_bytes > RESULT_LIMIT_BYTES:
        return _refused(
            f"the job returned {size_bytes} bytes of JSON, more than {RESULT_LIMIT_BYTES}: write large "
            "results into ctx.artifact_dir()"
        )
    return {"kind": "returned", "value": value}


def _refused(reason: str) -> dict[str, Json]:
    return {"kind": "raised", "reason": shorten(reason), "traceback": None}


def _retry_later(error: RetryLater) -> dict[str, Json]:
    delay_s = error.delay_s
    if isinstance(delay_s, int | float) and math.isfinite(delay_s) and delay_s >= 0:
        kind: dict[str, Json] = {"kind": "retry_later", "delay_s": delay_s}
    else:
        kind = {"kind": "raised"}
    return {**kind, "reason": _text(error), **own_trace(error)}


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the job called sys.exit({error.code!r}): return to succeed, raise to fail"
    return shorten(f"{type(error).__name__}: {error}".removesuffix(": "))


def _text(error: BaseException) -> str:
    return shorten(str(error) or type(error).__name__)


if __name__ == "__main__":
    main()
