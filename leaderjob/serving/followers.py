"""A follower per job: for those that run here, and for every other one that has results.

One that breaks is reported and begins again, with what is on the disk; the others do not notice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from leaderjob.keep_running import keep_running
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.serving.follower import Follower


async def _never(known: Collection[str]) -> None:
    await asyncio.Event().wait()


async def follow_all(
    feed: Feed,
    make: Callable[[str], Follower],
    known: Collection[str],
    until_more: Callable[[Collection[str]], Awaitable[None]] = _never,
) -> None:
    """Follow ``known`` jobs at once, and others when they first show a result. Until cancelled.

    :param until_more: returns when ``known`` has more jobs than it is given. One that is followed already is followed
        anew: from then on its code is here.
    """
    followed: dict[str, asyncio.Task[None]] = {}

    def unseen(view: View) -> set[str]:
        shown = {*view.pointers(), *(stored.record.job for stored in view.staged())}
        return (shown | set(known)) - followed.keys()

    async def follow(job: str) -> None:
        await make(job).run()

    async def begin_anew() -> None:
        had = set(known)
        while True:
            await until_more(had)
            for job in set(known) - had:
                if former := followed.get(job):
                    former.cancel()
                    await asyncio.wait([former])
                start(job)
            had |= set(known)

    async with asyncio.TaskGroup() as group:

        def start(job: str) -> None:
            name = f"follow {job}"
            followed[job] = group.create_task(keep_running(name, partial(follow, job)), name=name)

        group.create_task(begin_anew(), name="follow jobs whose code came later")
        while True:
            for job in sorted(unseen(feed.view)):
                start(job)
            await feed.until(lambda view: bool(unseen(view)))
