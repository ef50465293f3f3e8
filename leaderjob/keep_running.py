"""Work that must go on whatever breaks: an unexpected error is reported, and the work begins again."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from leaderjob.telemetry.events import Events, emit
from leaderjob.telemetry.trace import Trace

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0


async def keep_running(
    name: str,
    part: Callable[[], Awaitable[None]],
    *,
    ends: Callable[[Exception], bool] = lambda error: False,
    first_pause_s: float = FIRST_PAUSE_S,
    longest_pause_s: float = LONGEST_PAUSE_S,
    **fields: object,
) -> None:
    """Run ``part`` until it returns or this task is cancelled; after an error, pause and begin it again.

    The pause doubles, up to ``longest_pause_s``; a part that ran for longer than that begins anew with the
    first one. To be the whole of a task: what it does when cancelled is up to the part.

    :param ends: whether an error is no defect but the part's way to say that it is over; it is raised.
    :param fields: of the event that reports a defect, such as the term.
    """
    pause_s = first_pause_s
    while True:
        began = time.monotonic()
        try:
            # In a task of its own: before Python 3.13 (gh-116720), a TaskGroup that waits at its end for a
            # child that fails leaves a cancellation counted in its task, which would be taken for ours.
            await asyncio.ensure_future(part())
            return
        except asyncio.CancelledError as error:
            # gRPC ends a call that the other side cancelled with the same exception: nobody asked then,
            # and a task that ends with it is missed by no TaskGroup.
            if _is_cancelled():
                raise
            _report(name, error, pause_s, fields)
        except Exception as error:
            if ends(error):
                raise
            if _is_cancelled():
                _report(name, error, None, fields)
                raise asyncio.CancelledError from error
            _report(name, error, pause_s, fields)
        if time.monotonic() - began > longest_pause_s:
            pause_s = first_pause_s
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, longest_pause_s)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _report(name: str, error: BaseException, again_in_s: float | None, fields: dict[str, object]) -> None:
    emit(
        Events.PART_BROKEN,
        part=name,
        reason="; ".join(_reasons(error)),
        again_in_s=again_in_s,
        **fields,
        trace=Trace.of(error),
    )


def _reasons(error: BaseException) -> list[str]:
    """What happened; of a group, each thing that did."""
    if isinstance(error, BaseExceptionGroup):
        return [reason for inner in error.exceptions for reason in _reasons(inner)]
    return [f"{type(error).__name__}: {error}"]
