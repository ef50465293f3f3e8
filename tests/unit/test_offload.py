"""Work in threads, and coroutines that are cancelled while it is under way."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from leaderjob.offload import run_in_thread


async def test_the_result_and_the_error_of_the_work_are_those_of_the_call() -> None:
    def fail(_: Callable[[], bool]) -> None:
        raise OSError("disk")

    assert await run_in_thread(lambda cancelled: cancelled()) is False
    with pytest.raises(OSError, match="disk"):
        await run_in_thread(fail)


@pytest.mark.timeout_s(10)
async def test_a_cancelled_caller_goes_on_only_when_the_thread_has_ended() -> None:
    began, ended = threading.Event(), threading.Event()

    def work(cancelled: Callable[[], bool]) -> None:
        began.set()
        while not cancelled():
            ended.wait(0.001)
        ended.set()
        raise OSError("cut short")

    calling = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(began.wait)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert ended.is_set()


@pytest.mark.parametrize("finishes", [True, False])
@pytest.mark.timeout_s(10)
async def test_a_result_that_nobody_gets_is_undone(finishes: bool) -> None:
    began, go_on = threading.Event(), threading.Event()
    undone: list[str] = []

    def work(_: Callable[[], bool]) -> str:
        began.set()
        go_on.wait()
        if not finishes:
            raise OSError("disk")
        return "result"

    calling = asyncio.create_task(run_in_thread(work, undo=undone.append))
    await asyncio.to_thread(began.wait)
    calling.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert undone == (["result"] if finishes else [])
