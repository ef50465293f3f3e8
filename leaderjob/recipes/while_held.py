"""A piece of code that runs only while something is held."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from leaderjob.recipes.holding import Holding


@asynccontextmanager
async def while_held(holding: Holding) -> AsyncIterator[None]:
    """Cancel what is inside as soon as ``holding`` ends, or may not be trusted any more.

    :raises LeaderjobError: that happened, if only at the very end; what was done inside may overlap with the work of
        the next holder.
    """

    async def cancel(limit: asyncio.Timeout) -> None:
        await holding.wait_ended()
        limit.reschedule(0.0)

    holding.check()
    try:
        async with asyncio.timeout(None) as limit:
            watching = asyncio.create_task(cancel(limit), name=f"cancel with {holding.key}")
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.wait([watching])
    except TimeoutError:
        if not limit.expired():
            raise
        raise holding.lost() from None
    holding.check()
