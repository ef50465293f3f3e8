"""Which of the jobs in force this replica lacks, in its member record: others decide by that who should lead."""

import asyncio
from collections.abc import Collection

from leaderjob.cluster.membership import Membership
from leaderjob.cluster.rank import name_some
from leaderjob.model.member import Lacks
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit

NAMES_LIMIT = 1000
_PAUSE_S = 0.5
"""Between two counts: a leader may announce thousands of jobs one after the other, and a count looks at all of them."""


def count_lacks(view: View, jobs: Collection[str]) -> Lacks:
    """:param jobs: those that the replica has."""
    lacking, revision = [], 0
    for job, stored in view.specs.items():
        revision = max(revision, stored.create_revision)
        if stored.record.removed is None and job not in jobs:
            lacking.append(job)
    returned = [job for job in jobs if not view.is_in_force(job)]
    return Lacks(
        jobs=tuple(sorted(lacking)[:NAMES_LIMIT]),
        count=len(lacking),
        returned=tuple(sorted(returned)[:NAMES_LIMIT]),
        revision=revision,
    )


async def keep_lacks_counted(feed: Feed, membership: Membership, jobs: Collection[str]) -> None:
    """Count again whenever a definition changes, until cancelled. The log says so when jobs are lacking.

    :param jobs: those that this replica has, looked at anew each time.
    """
    seen: View | None = None
    changes = 0
    told: tuple[tuple[str, ...], int] = ((), 0)

    def is_new(view: View) -> bool:
        return view.revision > 0 and (view is not seen or view.definitions_changed != changes)

    while True:
        seen = await feed.until(is_new)
        changes = seen.definitions_changed
        lacks = count_lacks(seen, jobs)
        membership.set(lacks=lacks)
        if (lacks.jobs, lacks.count) != told:
            told = lacks.jobs, lacks.count
            if lacks.count:
                emit(Events.LACKS_JOBS, count=lacks.count, jobs=name_some(lacks.jobs, lacks.count))
            else:
                emit(Events.LACKS_NO_JOBS)
        await asyncio.sleep(_PAUSE_S)
