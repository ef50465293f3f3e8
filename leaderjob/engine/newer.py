"""A job of which some record can be read by a newer release only: it waits, and the others go on.

The record may be a run whose worker is alive, a watermark, a version that is in force: whoever cannot read it must not
decide anything that depends on it.
"""

from leaderjob.engine.office import Office
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit

_NAMED = 3


def why_unreadable(view: View, job: str) -> str | None:
    """Why nothing can be decided for the job, as a sentence; None: all its records can be read."""
    keys = [found.kv.key for found in view.newer_of(job)]
    if not keys:
        return None
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return (
        f"the job waits: only a newer release can read {', '.join(keys[:_NAMED])}{more}; upgrade leaderjob, or let a "
        "replica of that release lead"
    )


async def until_readable(office: Office, job: str) -> None:
    """Return when this release can read every record of the job."""
    found = office.feed.view.newer_of(job)
    if found:
        keys = ", ".join(each.kv.key for each in found[:_NAMED])
        emit(Events.JOB_WAITS_FOR_NEWER, job=job, term=office.token, keys=keys, count=len(found))
        await office.feed.until(lambda view: not view.newer_of(job), job=job)
