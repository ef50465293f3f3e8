"""An event loop beside a plain test: what must go on while the test waits for something lives there."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")
_TIMEOUT_S = 60.0


class Aside:
    """A context manager; what was entered in it is left in reverse order at its end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aside", daemon=True)
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._entered.close()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_TIMEOUT_S)
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, _T], *, timeout_s: float = _TIMEOUT_S) -> _T:
        """What it returns, once it has. :raises TimeoutError: it has not in time."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def enter(self, manager: AbstractAsyncContextManager[_T]) -> _T:
        """What the manager gives; it is left at the end, in the task in which it was entered."""
        entered: Future[_T] = Future()
        leave = asyncio.Event()
        held = asyncio.run_coroutine_threadsafe(_hold(manager, entered, leave), self._loop)

        def end() -> None:
            self._loop.call_soon_threadsafe(leave.set)
            held.result(_TIMEOUT_S)

        value = entered.result(_TIMEOUT_S)
        self._entered.callback(end)
        return value


async def _hold(
    manager: AbstractAsyncContextManager[_T], entered: "Future[_T]", leave: asyncio.Event
) -> None:
    try:
        async with manager as value:
            entered.set_result(value)
            await leave.wait()
    except BaseException as error:
        if entered.done():
            raise
        entered.set_exception(error)
