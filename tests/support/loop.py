"""Coroutines in plain tests."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def run_async(main: Coroutine[Any, Any, _T], *, timeout_s: float = 60.0) -> _T:
    """Run ``main`` in an event loop of its own, at most ``timeout_s``, and return what it returns.

    :raises TimeoutError: it took longer.
    :raises AssertionError: it left tasks behind, which a TaskGroup would not have.
    """

    async def bounded() -> _T:
        async with asyncio.timeout(timeout_s):
            result = await main
        await asyncio.sleep(0)  # what was cancelled last may end
        left_over = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left_over, f"tasks that nobody waited for: {left_over}"
        return result

    return asyncio.run(bounded())
