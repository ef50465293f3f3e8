"""``leaderjob forget``: a job that no replica has goes with its history.

In batches, each complete in itself, and the definition comes last: when the leader changes in between, the command is still
there for the next one, and a job that is half gone can be forgotten again.
"""

import asyncio
from collections.abc import Collection
from typing import Any

from leaderjob.clock import utcnow
from leaderjob.cluster.rank import jobs_of
from leaderjob.engine.answers import refuse
from leaderjob.engine.newer import why_unreadable
from leaderjob.engine.office import Office
from leaderjob.engine.removal import end_unfinished, mark_removed, workers_may_live
from leaderjob.etcd import Compare, Delete, Put, modified_at
from leaderjob.model.artifact import Forgotten
from leaderjob.model.command import Command
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit

_BATCH = 50
_TRIES = 5
_RETRY_PAUSE_S = 0.2
_HISTORY = (Kind.RUN, Kind.PROGRESS, Kind.STAGED, Kind.VERSION, Kind.POINTER, Kind.NUMBERS, Kind.TIMETABLE)


async def forget_job(office: Office, own: Collection[str], command: Stored[Command]) -> None:
    """Delete all records of the job, or refuse that. :param own: the jobs that this leader has.

    :raises Conflict: the command was changed or withdrawn.
    """
    job = command.record.job or ""
    runs, versions = len(office.feed.view.runs(job)), len(office.feed.view.versions(job))
    done = f"{job} was forgotten, with {_count(runs, 'run')} and {_count(versions, 'version')}"
    for _ in range(_TRIES):
        obstacle = why_unreadable(office.feed.view, job) or _why_not(office, own, job)
        if obstacle is not None:
            await refuse(office, command, obstacle)
            return
        try:
            async with office.ending:
                await mark_removed(office, job)
                await end_unfinished(office, job)
                await _remember_numbers(office, job)
                await _delete_history(office, job)
                await _finish(office, command, done)
        except Conflict:
            # Another hand changed a record, or the job came back; the view shows it soon.
            await asyncio.sleep(_RETRY_PAUSE_S)
            continue
        emit(
            Events.JOB_FORGOTTEN,
            job=job,
            term=office.token,
            runs=runs,
            versions=versions,
            by=command.record.by,
        )
        return
    await refuse(
        office,
        command,
        f"the records of job {job} are being changed by somebody else all the time, and some are left: try again",
    )


def _why_not(office: Office, own: Collection[str], job: str) -> str | None:
    view = office.feed.view
    if job in own:
        return f"the leader, {office.replica}, has the job: start the replicas without it first"
    spec = view.get(Kind.SPEC, job)
    if spec is None and not any(_of(view, kind, job) for kind in _HISTORY):
        return f"no job is called {job!r}; known are {', '.join(sorted(view.specs)) or 'none'}"
    if (reason := _who_may_have_it(office, job)) is not None:
        return reason
    run = workers_may_live(office, job)
    if run is not None:
        return f"a worker of its run {run.id} may still be alive: try again in a moment"
    return None


def _who_may_have_it(office: Office, job: str) -> str | None:
    """Which other live replica does, as a sentence; None: none does."""
    view = office.feed.view
    if view.newer_members:
        return (
            f"only a newer release can read {', '.join(view.newer_members)}, and that replica may have the job: stop it, or "
            "let it lead"
        )
    for replica in sorted(view.members):
        has = jobs_of(view, replica)(job) if replica != office.replica else False
        if has:
            return f"{replica} has the job: stop it, or start it without the job"
        if has is None:
            return f"{replica} has not said whether it has the job: try again in a moment, or stop it if its release is older"
    return None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _of(view: View, kind: Kind, job: str) -> list[Stored[Any]]:
    return [stored for names, stored in view.records[kind].items() if names[0] == job]


async def _remember_numbers(office: Office, job: str) -> None:
    """Replicas keep what they serve, and order it by these numbers: a job that comes back goes on counting."""
    view = office.feed.view
    numbers = [
        (stored.record.version, stored.record.sequence)
        for kind in (Kind.VERSION, Kind.POINTER, Kind.NUMBERS, Kind.FORGOTTEN)
        for stored in _of(view, kind, job)
    ]
    if not numbers:
        return
    key, former = office.keys.forgotten(job), view.get(Kind.FORGOTTEN, job)
    highest = Forgotten(
        version=max(version for version, _ in numbers),
        sequence=max(sequence for _, sequence in numbers),
        at=utcnow(),
    )
    revision = await office.writer.commit(
        [modified_at(key, former.mod_revision if former is not None else 0)], [Put(key, highest.to_bytes())]
    )
    await office.feed.until(lambda view: view.revision >= revision)


async def _delete_history(office: Office, job: str) -> None:
    unchanged = _unchanged_definition(office, job)  # a replica that has the job again announces it first
    while records := [stored for kind in _HISTORY for stored in _of(office.feed.view, kind, job)]:
        batch = records[:_BATCH]
        compares = [unchanged, *(modified_at(stored.key, stored.mod_revision) for stored in batch)]
        revision = await office.writer.commit(compares, [Delete(stored.key) for stored in batch])
        await office.feed.until(lambda view, revision=revision: view.revision >= revision)  # type: ignore[misc]


def _unchanged_definition(office: Office, job: str) -> Compare:
    spec = office.feed.view.get(Kind.SPEC, job)
    return modified_at(office.keys.spec(job), spec.mod_revision if spec is not None else 0)


async def _finish(office: Office, command: Stored[Command], outcome: str) -> None:
    """The definition goes with the answer to the command."""
    done = command.record.model_copy(update={"done": utcnow(), "accepted": True, "outcome": outcome})
    job = command.record.job or ""
    compares = [modified_at(command.key, command.mod_revision), _unchanged_definition(office, job)]
    await office.writer.commit(compares, [Put(command.key, done.to_bytes()), Delete(office.keys.spec(job))])
