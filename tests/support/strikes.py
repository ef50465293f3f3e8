"""Cancelling work at an await of one's choice."""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

When = Literal["as soon as it waits", "as the answer arrives"]

_T = TypeVar("_T")

_MOST_SUSPENSIONS = 200
_STARTED_BY_THE_WORK: ContextVar[set[asyncio.Task[Any]]] = ContextVar("tasks that the work started")


class Strike:
    """Runs ``work`` in a task, and cancels that at one of its suspensions; the first one is 1.

    :param when: "as the answer arrives": when what is waited for is there, and the task is about to go on.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], suspension: int, when: When) -> None:
        self.struck = False
        """Whether the work was suspended so often."""
        self.started: set[asyncio.Task[Any]] = set()
        """The tasks that it started, gRPC's own for its calls among them."""
        self._work = work
        self._suspension = suspension
        self._when = when

    async def run(self) -> asyncio.Task[None]:
        """Return the task when it has ended, in whatever way."""
        asyncio.get_running_loop().set_task_factory(_note)
        task = asyncio.create_task(self._in_task())
        await asyncio.wait([task])
        return task

    async def _in_task(self) -> None:
        _STARTED_BY_THE_WORK.set(self.started)
        await self

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        thrown: BaseException | None = None
        for number in range(1, _MOST_SUSPENSIONS):
            try:
                awaited = self._work.send(None) if thrown is None else self._work.throw(thrown)
            except StopIteration:
                return
            if number == self._suspension:
                self.struck = True
                if self._when == "as the answer arrives" and awaited is not None:
                    # Called before the task's own callback, which would go on with the answer.
                    awaited.add_done_callback(lambda _: task.cancel())
                else:
                    task.cancel()
            thrown = None
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - it belongs to the work, and is thrown into it
                thrown = error
        raise AssertionError(f"it was suspended {_MOST_SUSPENSIONS} times, and goes on")


def _note(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
    /,
    **options: Any,
) -> asyncio.Task[_T]:
    assert asyncio.iscoroutine(coroutine)
    task = asyncio.Task(coroutine, loop=loop, **options)
    _STARTED_BY_THE_WORK.get(set()).add(task)
    return task


def is_of_grpc(task: asyncio.Task[Any]) -> bool:
    """Whether gRPC started the task: it has some for each call, which end a moment after the call."""
    return "_AioCall" in repr(task) or "/grpc/aio/" in repr(task)
