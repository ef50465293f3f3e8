"""The worker's end of the pipe to its replica, and the brake on a job that reports progress in a tight
loop."""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue

from leaderjob.execution.protocol import PROGRESS_INTERVAL_S, shorten, to_line
from leaderjob.sdk import Json

Send = Callable[[Mapping[str, Json]], None]


class ChannelClosed(Exception):
    """The job's code has closed the descriptor by which leaderjob hears from the worker."""


class Channel:
    """Writes messages to a descriptor of its own, one whole line at a time, from any thread.

    A process that the job forks has no channel: only the worker itself speaks for the attempt.
    """

    def __init__(self, descriptor: int) -> None:
        # The job's own children must not hold the pipe open when the worker is gone.
        os.set_inheritable(descriptor, False)
        os.register_at_fork(after_in_child=self._close_in_child)
        self._descriptor = descriptor
        self._identity = _identity(descriptor)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._lines: deque[bytes] = deque()
        self._writing = False

    def send(self, message: Mapping[str, Json], value: bytes | None = None) -> None:
        """:param value: the message's ``value``, as :func:`encode` has returned it. It is not encoded here a second time,
        because by then the job's code may have changed it.
        :raises InvalidJson: the message is not JSON within the bounds; nothing was written.
        :raises ChannelClosed: the descriptor is no longer ours."""
        if os.getpid() != self._pid:
            return
        line = to_line(dict(message))
        if value is not None:
            line = line.removesuffix(b"}\n") + b',"value":' + value + b"}\n"
        with self._lock:
            self._lines.append(line)
            if self._writing:
                return  # a signal handler's message: the call that it interrupts writes it after its own
            self._writing = True
            try:
                while self._lines:
                    self._write(memoryview(self._lines.popleft()))
            finally:
                self._writing = False

    def _write(self, line: memoryview) -> None:
        # The number may be that of a file of the job's own by now.
        if _identity(self._descriptor) != self._identity:
            raise ChannelClosed(
                f"the job's code closed descriptor {self._descriptor}, by which leaderjob learns how the job "
                "ended: close only descriptors that your code has opened"
            )
        while line:
            line = line[os.write(self._descriptor, line) :]

    def _close_in_child(self) -> None:
        if _identity(self._descriptor) == self._identity:
            os.close(self._descriptor)


def _identity(descriptor: int) -> tuple[int, int] | None:
    """What is open under that number; None if nothing is."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Progress:
    """Sends the latest progress at once or 0.1 s after the one before; those between are dropped.

    A forked child of the job has a copy of this object but none of its threads: what it reports is
    ignored. A signal handler may report while a report of its own thread is under way, so the lock can be taken again,
    and nothing here waits for a condition.
    """

    def __init__(self, send: Send, interval_s: float = PROGRESS_INTERVAL_S) -> None:
        self._send = send
        self._interval_s = interval_s
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._waiting: Mapping[str, Json] | None = None
        self._sent_at = float("-inf")
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def report(self, message: Mapping[str, Json]) -> None:
        """:raises ValueError, TypeError: ``done`` or ``total`` is not a finite number."""
        if os.getpid() != self._pid:
            return
        checked = {
            **message,
            "done": _finite(message["done"]),
            "total": _finite(message["total"]),
            "message": shorten(str(message["message"])),
        }
        with self._lock:
            now = time.monotonic()
            if self._waiting is None and now - self._sent_at >= self._interval_s:
                self._sent_at = now
                self._send(checked)
                return
            asleep, self._waiting = self._waiting is None, checked
            # Most jobs never report that fast: they never get a thread, and may fork as they like.
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_later, name="progress", daemon=True)
                self._thread.start()
            if asleep:
                self._wake.put(None)

    def flush(self) -> None:
        """Send what is waiting, now."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                self._sent_at = time.monotonic()
                self._send(waiting)

    def _send_later(self) -> None:
        while True:
            self._wake.get()
            time.sleep(max(0.0, self._sent_at + self._interval_s - time.monotonic()))
            self.flush()


def _finite(number: object) -> float:
    value = float(number)  # type: ignore[arg-type]  # whatever it is, float() says whether it is a number
    if not math.isfinite(value):
        raise ValueError(f"progress has to be a finite number, not {number!r}")
    return value
