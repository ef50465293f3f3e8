"""The open connections of a server in threads: how many there may be, and which one must go for another.

A connection *waits* while the next move is the other side's: from its start until its first request is there as
a whole, while it takes a short answer, and between requests. Who waits for too long has to go, and where all
places are taken, so has who waits longest: nobody keeps a place by doing nothing, or by doing it slowly.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

_Socket = TypeVar("_Socket", bound=socket.socket)

_GOES_WITHIN_S = 0.25


@dataclass(slots=True)
class _Open:
    """``waits_since`` and ``waits_until`` (monotonic) are None while the next move is the server's. ``broken``: its
    thread is about to find out that it has ended."""

    connection: socket.socket
    waits_since: float | None = None
    waits_until: float | None = None
    broken: bool = False

    def wait(self, within_s: float) -> None:
        self.waits_since = time.monotonic()
        self.waits_until = self.waits_since + within_s

    def work(self) -> None:
        self.waits_since = self.waits_until = None

    def break_off(self) -> None:
        """End it in its own thread, as if the other side had gone."""
        self.broken = True
        with suppress(OSError):  # the other side has gone already
            # Not the method of an encrypted socket, which would pull away what its thread is reading with.
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)


class Connections:
    """One for each thread that serves one, at most ``limit``. :meth:`enter` is for a single thread; the methods
    without a ``thread`` are called in those that serve."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[threading.Thread, _Open] = {}
        self._changed = threading.Condition()

    def enter(self, thread: threading.Thread, connection: socket.socket, *, within_s: float) -> bool:
        """Whether there is a place for a connection, which then waits; who waits longest goes if need be.

        :param thread: what will serve it, not started yet.
        :param within_s: how long it may wait.
        """
        with self._changed:
            if not self._has_room() and any(each.broken for each in self._open.values()):
                self._changed.wait_for(self._has_room, _GOES_WITHIN_S)
            if not self._has_room() and self._break_who_waits_longest():
                self._changed.wait_for(self._has_room, _GOES_WITHIN_S)
            if not self._has_room():
                return False
            self._open[thread] = entered = _Open(connection)
            entered.wait(within_s)
            return True

    def leave(self, thread: threading.Thread) -> None:
        """It is over: before the connection is closed."""
        with self._changed:
            del self._open[thread]
            self._changed.notify()

    def wrap(self, wrap: Callable[[], _Socket]) -> _Socket:
        """From now on, the connection is what ``wrap`` makes of it, without waiting for the other side."""
        with self._changed:
            self._open[threading.current_thread()].connection = wrapped = wrap()
            return wrapped

    def wait(self, within_s: float) -> None:
        """The next move is the other side's, within so long."""
        with self._changed:
            self._open[threading.current_thread()].wait(within_s)

    def work(self) -> None:
        """The next move is ours: this connection has to go for nobody."""
        with self._changed:
            self._open[threading.current_thread()].work()

    def break_overdue(self) -> None:
        """End those that have waited for too long."""
        now = time.monotonic()
        with self._changed:
            for each in self._open.values():
                if each.waits_until is not None and each.waits_until < now:
                    each.break_off()

    def break_all(self, timeout_s: float) -> None:
        """End all and wait for the threads, at most ``timeout_s`` in all."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            threads = list(self._open)
            for each in self._open.values():
                each.break_off()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _has_room(self) -> bool:
        return len(self._open) < self._limit

    def _break_who_waits_longest(self) -> bool:
        """Whether anybody waits."""
        waiting = [
            (each.waits_since, each)
            for each in self._open.values()
            if each.waits_since is not None and not each.broken
        ]
        if waiting:
            min(waiting, key=lambda pair: pair[0])[1].break_off()
        return bool(waiting)
