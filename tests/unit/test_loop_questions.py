"""Questions from threads to an event loop."""

import asyncio
import time

import pytest

from leaderjob.probes import InLoop, LoopStalled
from tests.support.loop import run_async


async def test_a_loop_that_turns_answers() -> None:
    in_loop = InLoop()
    assert (await asyncio.to_thread(in_loop.ask, lambda: 42)) == 42


async def test_a_loop_that_is_held_up_is_told_from_one_that_turns() -> None:
    in_loop = InLoop()

    def ask() -> None:
        with pytest.raises(LoopStalled, match=r"has not turned for 0\.05 s"):
            in_loop.ask(lambda: 42, timeout_s=0.05)

    asking = asyncio.create_task(asyncio.to_thread(ask))
    await asyncio.sleep(0)
    time.sleep(0.3)
    await asking


async def test_what_the_question_raises_is_raised_where_it_was_asked() -> None:
    in_loop = InLoop()
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(in_loop.ask, lambda: 1 / 0)


def test_a_loop_that_has_ended_is_said_to_have() -> None:
    async def main() -> InLoop:
        return InLoop()

    in_loop = run_async(main())
    with pytest.raises(LoopStalled, match="has ended"):
        in_loop.ask(lambda: 42)
