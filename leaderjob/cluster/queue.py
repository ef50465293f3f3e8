"""The queue of candidates, and stepping aside in it: for the replica that office is to pass to, and for a better one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from leaderjob.cluster.rank import better_behind, lacks_of, name_some
from leaderjob.recipes import Leadership
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit


class Passing(NamedTuple):
    """Another candidate, which goes before this one, and why."""

    to: str
    reason: str


def must_let_pass(view: View, replica: str, *, token_floor: int) -> Passing | None:
    """The replica that this one, as a candidate, has to go behind; None: it keeps its place.

    Of two that lack jobs the one that lacks more stands behind; equals keep their places. While office is being handed
    over to one replica, nothing else counts: an operator may have insisted on one that lacks jobs.
    """
    places = {stored.record.replica: place for place, stored in enumerate(view.queue)}
    if places.get(replica, 0) == 0:
        return None  # it leads, or is not a candidate
    to = _handed_over_to(view, token_floor)
    if to is not None:
        return Passing(to, "office passes to it") if places.get(to, 0) > places[replica] else None
    better = better_behind(view, replica)
    if better is None:
        return None
    lacks = lacks_of(view, replica)
    assert lacks is not None
    return Passing(better, f"it has more of the jobs: {replica} lacks {name_some(lacks.jobs, lacks.count)}")


def _handed_over_to(view: View, token_floor: int) -> str | None:
    transfer, leader = view.transfer(), view.leader_key
    if transfer is None or leader is None or transfer.record.token != leader.create_revision + token_floor:
        return None
    to: str = transfer.record.to
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
        passing = asked.result()
        emit(Events.LETTING_PASS, to=passing.to, reason=passing.reason)
        # Until the view shows it gone it looks as if this candidate still stood where it did.
        await feed.until(lambda view: all(stored.record.replica != replica for stored in view.queue))


async def _asked_to_let_pass(feed: Feed, replica: str, token_floor: int) -> Passing:
    while True:
        passing = must_let_pass(feed.view, replica, token_floor=token_floor)
        if passing is not None:
            return passing
        await feed.changed()
