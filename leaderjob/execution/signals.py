"""How a worker hears that it has to stop."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


class StopRequest:
    """Whether SIGTERM has arrived, and what has to happen at that moment (cancel a coroutine).

    A process that the job forks gets the default action back: ``Process.terminate()`` and pools rely on it.
    """

    def __init__(self) -> None:
        self.requested = False
        self.on_request: Callable[[], object] | None = None
        self._pid = os.getpid()
        self._masks = threading.local()

    def install(self) -> None:
        """Become the handler of SIGTERM, in this process alone."""
        signal.signal(signal.SIGTERM, self)
        os.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._restore_mask,
            after_in_child=self._after_fork_in_child,
        )

    @property
    def in_fork(self) -> bool:
        """Whether this is not the worker, but a process that the job has forked."""
        return os.getpid() != self._pid

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self.on_request is not None:
            self.on_request()

    def _before_fork(self) -> None:
        # A signal that reached the child before it has its own action would be lost.
        self._masks.former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _restore_mask(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.former)

    def _after_fork_in_child(self) -> None:
        if signal.getsignal(signal.SIGTERM) is self:  # and not a handler of the job's own
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._restore_mask()
