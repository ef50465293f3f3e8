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
from leaderjob.etcd import Compare, Delete, Op, Put, modified_at
from leaderjob.model.artifact import Forgotten
from leaderjob.model.command import Command
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit

_BATCH = 50
_TRIES = 5
_HISTORY = (Kind.RUN, Kind.PROGRESS, Kind.STAGED, Kind.VERSION, Kind.POINTER, Kind.NUMBERS, Kind.TIMETABLE)


async def forget_job(office: Office, own: Collection[str], command: Stored[Command]) -> None:
    """Delete all records of the job, or refuse that. :param own: the jobs that this leader has.

    :raises Conflict: the records are being changed by somebody else all the time.
    """
    job = command.record.job or ""
    view = office.feed.view
    obstacle = why_unreadable(view, job) or _why_not(office, own, job)
    if obstacle is not None:
        await refuse(office, command, obstacle)
        return
    runs, versions = len(view.runs(job)), len(view.versions(job))
    await mark_removed(office, job)
    for _ in range(_TRIES):
        try:
            await end_unfinished(office, job)
            await _remember_numbers(office, job)
            await _delete_history(office, job)
            break
        except Conflict:
            # Another hand changed a record; the view shows it soon.
            await asyncio.sleep(0.2)
    else:
        raise Conflict(f"the records of job {job} are being changed by somebody else all the time")
    await _finish(
        office, command, f"{job} was forgotten, with {_count(runs, 'run')} and {_count(versions, 'version')}"
    )
    emit(Events.JOB_FORGOTTEN, job=job, term=office.token, runs=runs, versions=versions, by=command.record.by)


def _why_not(office: Office, own: Collection[str], job: str) -> str | None:
    view = office.feed.view
    if job in own:
        return f"the leader, {office.replica}, has the job: start the replicas without it first"
    spec = view.get(Kind.SPEC, job)
    if spec is None and not any(_of(view, kind, job) for kind in _HISTORY):
        return f"no job is called {job!r}; known are {', '.join(sorted(view.specs)) or 'none'}"
    for replica in sorted(view.members):
        has = jobs_of(view, replica)(job) if spec is not None and replica != office.replica else False
        if has:
            return f"{replica} has the job: stop it, or start it without the job"
        if has is None:
            return f"{replica} has not said whether it has the job: try again in a moment, or stop it if its release is older"
    run = workers_may_live(office, job)
    if run is not None:
        return f"a worker of its run {run.id} may still be alive: try again in a moment"
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
    while records := [stored for kind in _HISTORY for stored in _of(office.feed.view, kind, job)]:
        batch = records[:_BATCH]
        compares: list[Compare] = [modified_at(stored.key, stored.mod_revision) for stored in batch]
        revision = await office.writer.commit(compares, [Delete(stored.key) for stored in batch])
        await office.feed.until(lambda view, revision=revision: view.revision >= revision)  # type: ignore[misc]


async def _finish(office: Office, command: Stored[Command], outcome: str) -> None:
    """The definition goes with the answer to the command."""
    done = command.record.model_copy(update={"done": utcnow(), "accepted": True, "outcome": outcome})
    compares: list[Compare] = [modified_at(command.key, command.mod_revision)]
    ops: list[Op] = [Put(command.key, done.to_bytes())]
    spec = office.feed.view.get(Kind.SPEC, command.record.job or "")
    if spec is not None:
        compares.append(modified_at(spec.key, spec.mod_revision))
        ops.append(Delete(spec.key))
    await office.writer.commit(compares, ops)
