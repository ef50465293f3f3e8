"""A leader hands office over to a replica that should lead rather than it, when that costs nobody anything."""

import asyncio
from collections.abc import Collection

from leaderjob.cluster.rank import better_leader, why_better
from leaderjob.engine.office import Office
from leaderjob.engine.stepdown import Busy, all_idle
from leaderjob.engine.transfer import make_next, take_back, why_not

_AGAIN_AFTER_S = 60.0


async def give_way(office: Office, parts: Collection[Busy]) -> None:
    """Wait for a better candidate that has come to stay (for one TTL), and for a moment without a run; then let
    the term step down in its favour. Better is one that lacks fewer jobs, and among equals one that is preferred.
    Until the term ends."""
    while True:
        await office.feed.until(lambda view: better_leader(view, office.replica) is not None)
        await asyncio.sleep(office.leadership.session.ttl_s)
        await all_idle(parts)
        async with office.stepdown.deciding:
            to = better_leader(office.feed.view, office.replica)
            if to is None or why_not(office.feed.view, office.replica, to) is not None:
                continue
            reason = why_better(office.feed.view, office.replica, to)
            if await make_next(office, to) is None:
                if not any(part.busy for part in parts):
                    office.stepdown.ask(reason)
                    return
                # Meanwhile a run began: another moment, for which that replica is next in line already.
                await take_back(office)
                continue
        await asyncio.sleep(_AGAIN_AFTER_S)
