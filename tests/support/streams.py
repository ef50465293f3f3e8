"""Coroutines that hold streams to etcd."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.support.loop import run_async

_T = TypeVar("_T")

_TASKS_OF_GRPC = ("_AioCall", "_schedule_rpc_coro")


def run_with_streams(main: Coroutine[Any, Any, _T], *, timeout_s: float = 30.0) -> _T:
    """``run_async``, where gRPC may end its own tasks first.

    It has one for each call, made or served, which ends a moment after the call was cancelled, and offers no way to wait
    for that.
    """

    async def quiet() -> _T:
        result = await main
        while any(own in repr(task) for task in asyncio.all_tasks() for own in _TASKS_OF_GRPC):
            await asyncio.sleep(0.002)
        return result

    return run_async(quiet(), timeout_s=timeout_s)
