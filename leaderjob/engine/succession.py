"""Between an election that was won and the term's work: the leader sees what earlier terms wrote."""

import asyncio
from typing import Any

from leaderjob.engine.stepdown import StepDown, step_down_when_asked
from leaderjob.recipes import Leadership
from leaderjob.records.feed import Feed

_SILENT_S = 2.0


async def see_all_before(feed: Feed, leadership: Leadership, stepdown: StepDown) -> None:
    """Return when the feed shows all that was written before the election was won.

    :raises TermLost: the term ended first. :raises SteppedDown: it was asked to.
    """
    asked = step_down_when_asked(stepdown, (), term=leadership.term.token, drain_s=0.0)
    ways: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(_shows(feed, leadership.won_revision)),
        asyncio.ensure_future(leadership.wait_ended()),
        asyncio.ensure_future(asked),
    ]
    try:
        first, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    leadership.check()
    for way in first:
        way.result()


async def _shows(feed: Feed, revision: int) -> None:
    """A member of etcd that hangs, or sends no events, is noticed much later by a watch than by a call."""
    try:
        async with asyncio.timeout(_SILENT_S):
            await feed.until(lambda view: view.revision >= revision)
    except TimeoutError:
        await feed.read_again()
        await feed.until(lambda view: view.revision >= revision)
