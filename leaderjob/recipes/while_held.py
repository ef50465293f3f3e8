"""A piece of code that runs only while something is held."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from leaderjob.recipes.tenure import Tenure


@asynccontextmanager
async def while_held(tenure: Tenure) -> AsyncIterator[None]:
    """Cancel what is inside as soon as ``tenure`` ends, or may not be trusted any more.

    :raises LeaderjobError: that happened, if only at the very end; what was done inside may overlap with the work of
        the next holder.
    """

    async def cancel(limit: asyncio.Timeout) -> None:
        await tenure.wait_ended()
        limit.reschedule(0.0)

    tenure.check()
    try:
        async with asyncio.timeout(None) as limit:
            watching = asyncio.create_task(cancel(limit), name=f"cancel with {tenure.key}")
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.wait([watching])
    except TimeoutError:
        if not limit.expired():
            raise
        raise tenure.lost() from None
    tenure.check()
