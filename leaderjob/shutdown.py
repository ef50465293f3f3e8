"""Leaving when told, at any time: while starting, while running, and when something hangs."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from leaderjob.errors import LeaderjobError
from leaderjob.telemetry.events import Events, emit

STOP_WITHIN_S = 9.0


class AskedToStop(LeaderjobError):
    """The process was asked to stop before it was up."""

    exit_code = 0


class Shutdown:
    """Whether this process was asked to stop. From then on it has :data:`STOP_WITHIN_S` to leave in order."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._start: asyncio.Timeout | None = None

    @classmethod
    def on_signals(cls) -> "Shutdown":
        """Asked by SIGTERM and by SIGINT."""
        shutdown = cls()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, shutdown.ask)
        return shutdown

    def ask(self) -> None:
        """Ask the process to stop. Asking again changes nothing."""
        if self.asked.is_set():
            return
        self.asked.set()
        emit(Events.REPLICA_STOPPING)
        _give_up_after(STOP_WITHIN_S)
        if self._start is not None:
            self._start.reschedule(0.0)

    @asynccontextmanager
    async def cutting_short(self) -> AsyncIterator[None]:
        """What is inside is cancelled as soon as the process is asked to stop.

        :raises AskedToStop: it was.
        """
        try:
            async with asyncio.timeout(None) as self._start:
                yield
        except TimeoutError:
            if self._start is not None and self._start.expired():
                raise AskedToStop from None
            raise
        finally:
            self._start = None


def _give_up_after(seconds: float) -> None:
    """End the process if it has not ended by then, from a thread, whatever the event loop hangs on.

    That costs nobody anything: workers die with the pipe to their guard, the lease runs out by itself.
    """

    def give_up() -> None:
        emit(Events.REPLICA_STOPPED, reason=f"it did not stop in order within {seconds:g} s")
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
