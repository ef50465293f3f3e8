"""A follower per job: for those that run here, and for every other one that has results.

One that breaks is reported and begins again, with what is on the disk; the others do not notice.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from leaderjob.keep_running import keep_running
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.serving.follower import Follower


async def follow_all(feed: Feed, make: Callable[[str], Follower], known: frozenset[str]) -> None:
    """Follow ``known`` jobs at once, and others when they first show a result. Until cancelled."""
    followed: set[str] = set()

    def unseen(view: View) -> set[str]:
        return ({*view.pointers(), *(stored.record.job for stored in view.staged())} | known) - followed

    async def follow(job: str) -> None:
        await make(job).run()

    async with asyncio.TaskGroup() as group:
        while True:
            for job in sorted(unseen(feed.view)):
                followed.add(job)
                name = f"follow {job}"
                group.create_task(keep_running(name, partial(follow, job)), name=name)
            await feed.until(lambda view: bool(unseen(view)))
