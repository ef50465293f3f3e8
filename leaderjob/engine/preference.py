"""A leader that is not preferred hands office over to a replica that is, when that costs nobody anything."""

import asyncio
from collections.abc import Collection

from leaderjob.engine.office import Office
from leaderjob.engine.stepdown import Busy, all_idle
from leaderjob.engine.transfer import make_next, take_back, why_not
from leaderjob.model.member import Priority
from leaderjob.records.view import View

_AGAIN_AFTER_S = 60.0


def preferred(view: View, leader: str) -> str | None:
    """The first candidate in line that is preferred; None: there is none, or the leader is preferred itself."""
    members = view.members

    def is_preferred(replica: str) -> bool:
        return replica in members and members[replica].record.priority is Priority.PREFERRED

    if is_preferred(leader):
        return None
    return next((found.record.replica for found in view.queue if is_preferred(found.record.replica)), None)


async def give_way(office: Office, parts: Collection[Busy]) -> None:
    """Wait for a preferred candidate that has come to stay (for one TTL), and for a moment without a run; then let
    the term step down in its favour. Until the term ends."""
    while True:
        await office.feed.until(lambda view: preferred(view, office.replica) is not None)
        await asyncio.sleep(office.leadership.session.ttl_s)
        await all_idle(parts)
        async with office.stepdown.deciding:
            to = preferred(office.feed.view, office.replica)
            if to is None or why_not(office.feed.view, office.replica, to) is not None:
                continue
            if await make_next(office, to) is None:
                if not any(part.busy for part in parts):
                    office.stepdown.ask(f"{to} is preferred")
                    return
                # Meanwhile a run began: another moment, for which that replica is next in line already.
                await take_back(office)
                continue
        await asyncio.sleep(_AGAIN_AFTER_S)
