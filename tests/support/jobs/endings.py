"""A job whose end is hard to describe, and one that reports progress from a signal handler."""

import signal
import sys
from types import FrameType
from typing import Any

from leaderjob import JobContext, Permanent, RetryLater, job


class _NoName(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=_NoName):
    pass


class Delayed(RetryLater):
    @property
    def delay_s(self) -> float:  # type: ignore[override]
        raise RuntimeError("no delay")

    def __init__(self) -> None:
        Exception.__init__(self)


class Uncaused(Exception):
    @property
    def __cause__(self) -> Any:
        raise KeyboardInterrupt


def _closes_its_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()
    sys.exit("no such table")


def _has_a_frame_without_a_proper_name() -> None:
    def divide() -> float:
        return 1 / 0

    divide.__code__ = divide.__code__.replace(co_qualname="\udc80" * 2_000_000, co_filename="/\udc80.py")
    divide()


def _raise(error: BaseException) -> None:
    raise error


@job
def ends(ctx: JobContext, how: str) -> None:
    {
        "a name of millions": lambda: _raise(type("X" * 6_000_000, (Permanent,), {})("gone")),
        "no name": lambda: _raise(Nameless("gone")),
        "no delay": lambda: _raise(Delayed()),
        "no cause": lambda: _raise(Uncaused("gone")),
        "a status of thousands of digits": lambda: sys.exit(10**5000),
        "closed streams": _closes_its_streams,
        "a frame without a proper name": _has_a_frame_without_a_proper_name,
    }[how]()


@job
def reports_from_a_signal_handler(ctx: JobContext, times: int) -> int:
    handled = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        ctx.progress(handled, times, "from the handler")
        if handled < times:
            signal.setitimer(signal.ITIMER_REAL, 0.002)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    while handled < times:
        ctx.progress(handled, times, "from the job")
    return handled


class Changing(dict[str, int]):
    def __init__(self) -> None:
        super().__init__(rows=1)
        self.reads = 0

    def items(self) -> Any:
        self.reads += 1
        if self.reads > 2:
            raise RuntimeError("dictionary changed size during iteration")
        return super().items()


@job
def returns_what_changes(ctx: JobContext) -> Any:
    return Changing()
