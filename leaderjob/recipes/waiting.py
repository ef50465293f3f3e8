"""Waiting for the first of several things."""

import asyncio
from collections.abc import Awaitable


async def first_of(*waits: Awaitable[object], within_s: float) -> None:
    """Return when one of them has returned, or after ``within_s`` seconds; the others are cancelled.

    What one of them raises, is raised.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
