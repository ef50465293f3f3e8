"""Whether this release reads the layout of keys that the namespace has; a replica that does not read it must not lead.

The layout is changed by a leader of a newer release, once every replica that could lead announces that it reads the new one.
"""

import asyncio

from leaderjob.cluster.membership import Membership
from leaderjob.model.schema import READS_SCHEMA
from leaderjob.recipes import Session
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit

_LOOK_AGAIN_S = 5.0


def why_not_lead(view: View) -> str | None:
    """Why no replica of this release may lead on these keys; None: it reads them."""
    stored = view.schema()
    if stored is not None and stored.record.number > READS_SCHEMA:
        return (
            f"{stored.key} says that the keys have layout {stored.record.number}, and this release reads {READS_SCHEMA}: "
            "it serves what it has, and does not lead; upgrade leaderjob here"
        )
    unreadable = {**view.newer, **view.quarantined}
    reason = next((found.reason for found in unreadable.values() if found.place.kind is Kind.SCHEMA), None)
    if reason is None:
        return None
    return (
        f"the layout of the keys is not known, so this replica serves what it has and does not lead: {reason}"
    )


async def until_schema_is_read(feed: Feed, session: Session) -> None:
    """Return once the view shows that this release reads the keys. :raises SessionLost: that came first."""
    told = ""
    while (problem := why_not_lead(feed.view)) is not None or feed.view.revision == 0:
        if problem is not None and problem != told:
            emit(Events.SCHEMA_TOO_NEW, reason=problem)
            told = problem
        await feed.changed(_LOOK_AGAIN_S)
        session.check()


async def until_schema_is_too_new(feed: Feed) -> str:
    """Return why, once this release does not read the keys any more."""
    view = await feed.until(lambda view: why_not_lead(view) is not None)
    problem = why_not_lead(view)
    assert problem is not None
    emit(Events.SCHEMA_TOO_NEW, reason=problem)
    return problem


async def only_serve(feed: Feed, membership: Membership, session: Session, key: str) -> None:
    """Be a member that does not stand for election, for as long as only a newer release can read ``key``."""
    ways = [
        asyncio.ensure_future(membership.keep(session)),
        asyncio.ensure_future(session.wait_lost()),
        asyncio.ensure_future(feed.until(lambda view: view.revision > 0 and key not in view.newer)),
    ]
    try:
        await asyncio.wait(ways[1:], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
