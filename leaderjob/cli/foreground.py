"""A command line that runs something until it ends or is asked to stop, and stops it in order."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_in_order(work: Coroutine[Any, Any, int]) -> int:
    """``asyncio.run``, where SIGINT (Ctrl-C), SIGTERM and SIGHUP cancel ``work``; returns its exit code, or 128 + N.

    SIGHUP does not if the process was started to ignore it (``nohup``).

    The same signal once more ends this process at once; what it runs under a guard is killed then.
    """
    return asyncio.run(_run(work))


async def _run(work: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    asked: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        asked.append(number)
        loop.remove_signal_handler(number)
        # Not Python's own for Ctrl-C, which would cancel what waits for the end of what runs under a guard.
        signal.signal(number, signal.SIG_DFL)
        task.cancel()

    stopping = [
        number
        for number in _STOPPING
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]
    for number in stopping:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not asked:
            raise
        return 128 + asked[0]
    finally:
        for number in stopping:
            loop.remove_signal_handler(number)
