"""Blocking work in a thread, from a coroutine that may be cancelled meanwhile."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def run_in_thread(
    work: Callable[[Callable[[], bool]], ResultT], *, undo: Callable[[ResultT], object] | None = None
) -> ResultT:
    """Run ``work(cancelled)`` in a thread; raises what it raises.

    A thread cannot be interrupted. So when the caller is cancelled, ``cancelled()`` becomes true, and the
    cancellation goes on only once the thread has ended: nothing runs behind the caller's back.

    :param undo: called with the result of work that came to its end all the same, and that nobody will get.
    """
    stop = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(work, stop.is_set))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        if running.exception() is None and undo is not None:
            undo(running.result())
        raise
