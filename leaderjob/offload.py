"""Blocking work in a thread, from a coroutine that may be cancelled meanwhile."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
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


def in_own_thread(work: Callable[[], ResultT], name: str) -> "asyncio.Future[ResultT]":
    """Begin ``work`` in a thread of its own, for what may hang, or must not wait for the threads that asyncio lends:
    all of them may be at work, for minutes, on results.

    :return: done when the work is, with what it returned or raised. The work goes on if nobody waits any more.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[ResultT] = loop.create_future()
    done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody may ask

    def settle(result: ResultT | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # of ResultT, where there is no error

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - whoever waits gets it
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
