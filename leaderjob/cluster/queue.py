"""The queue of candidates, and stepping aside in it for the replica that office is to pass to."""

import asyncio
from collections.abc import Awaitable, Callable

from leaderjob.recipes import Leadership
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit


def must_let_pass(view: View, replica: str, *, token_floor: int) -> str | None:
    """The replica that this one, as a candidate, has to go behind; None: it keeps its place."""
    transfer, leader = view.transfer(), view.leader_key
    if transfer is None or leader is None or transfer.record.token != leader.create_revision + token_floor:
        return None
    places = {stored.record.replica: place for place, stored in enumerate(view.queue)}
    to = transfer.record.to
    if places.get(replica, 0) == 0 or places.get(to, 0) <= places[replica]:
        return None  # it leads, is no candidate, or is behind already; or the other one does not stand
    return to


async def campaign_and_let_pass(
    campaign: Callable[[], Awaitable[Leadership]], feed: Feed, replica: str, *, token_floor: int
) -> Leadership:
    """Campaign until office is won; whenever another replica is to be next, queue again behind it.

    :param campaign: stands for election; cancelled, it leaves no key behind.
    """
    while True:
        standing = asyncio.ensure_future(campaign())
        asked = asyncio.ensure_future(_asked_to_let_pass(feed, replica, token_floor))
        try:
            await asyncio.wait([standing, asked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (standing, asked):
                task.cancel()
            await asyncio.gather(standing, asked, return_exceptions=True)
        if not standing.cancelled():
            return standing.result()
        emit(Events.LETTING_PASS, to=asked.result())
        # Until the view shows it gone it looks as if this candidate still stood where it did.
        await feed.until(lambda view: all(stored.record.replica != replica for stored in view.queue))


async def _asked_to_let_pass(feed: Feed, replica: str, token_floor: int) -> str:
    while True:
        to = must_let_pass(feed.view, replica, token_floor=token_floor)
        if to is not None:
            return to
        await feed.changed()
