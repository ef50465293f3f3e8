"""Leaving when told, at any time: while starting, while running, and when something hangs."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from leaderjob.errors import LeaderjobError
from leaderjob.telemetry.events import Events, emit

STOP_WITHIN_S = 9.0


class AskedToStop(LeaderjobError):
    """The process was asked to stop before it was up."""

    exit_code = 0


class Shutdown:
    """Whether this process was asked to stop. From then on it has :data:`STOP_WITHIN_S` to leave in order.

    :param kill_grace_s: so much longer may it take, for a worker that does not obey TERM.
    :param drain_s: and so much longer, unless it is asked twice.
    """

    def __init__(self, *, kill_grace_s: float, drain_s: float = 0.0) -> None:
        self.asked = asyncio.Event()
        self._insisted = asyncio.Event()
        self._stop_within_s = STOP_WITHIN_S + kill_grace_s
        self._drain_s = drain_s
        self._limit: threading.Timer | None = None
        self._start: asyncio.Timeout | None = None

    @classmethod
    def on_signals(cls, *, kill_grace_s: float, drain_s: float) -> "Shutdown":
        """Asked by SIGTERM, by SIGINT, and by SIGHUP unless the process was started to ignore it (``nohup``)."""
        shutdown = cls(kill_grace_s=kill_grace_s, drain_s=drain_s)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, shutdown.ask)
        return shutdown

    def ask(self) -> None:
        """Ask the process to stop. Who asks again waits for no run any more."""
        if self.asked.is_set():
            if not self._insisted.is_set() and self._drain_s:
                self._insisted.set()
                self._limit_to(self._stop_within_s)
            return
        self.asked.set()
        emit(Events.REPLICA_STOPPING)
        self._limit_to(self._stop_within_s + self._drain_s)
        if self._start is not None:
            self._start.reschedule(0.0)

    async def unless_insisted(self, work: Awaitable[None]) -> None:
        """Do ``work``, or as much of it as is done by the time that somebody asks again."""
        doing, insisted = asyncio.ensure_future(work), asyncio.ensure_future(self._insisted.wait())
        try:
            await asyncio.wait([doing, insisted], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (doing, insisted):
                task.cancel()
            await asyncio.gather(doing, insisted, return_exceptions=True)

    def _limit_to(self, seconds: float) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = _give_up_after(seconds)

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


def _give_up_after(seconds: float) -> threading.Timer:
    """End the process if it has not ended by then, from a thread, whatever the event loop hangs on.

    That costs nobody anything: workers die with the pipe to their guard, the lease runs out by itself.
    """

    def give_up() -> None:
        emit(Events.REPLICA_STOPPED, reason=f"it did not stop in order within {seconds:g} s")
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    return timer
