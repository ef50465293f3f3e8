"""A leader that lacks jobs in force leaves their timetables alone, and notes since when: the next leader that has
them accounts for their fires, and names the reason."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from leaderjob.clock import boottime, utcnow
from leaderjob.cluster.rank import jobs_of, name_some
from leaderjob.engine.office import Office
from leaderjob.etcd import Put, modified_at
from leaderjob.model.lacking import Lacking
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import CorruptRecord, Stored, decode
from leaderjob.records.view import View
from leaderjob.scheduling.absence import Absence
from leaderjob.telemetry.events import Events, emit

NAMES_LIMIT = 10_000
_SIZE_LIMIT_BYTES = 512 * 1024
"""A third of what etcd takes by default."""
_LOOK_EVERY_S = 1.0
_NOTE_EVERY_S = 60.0
_NOTES_LIMIT = 20
_ABSENCES_LIMIT = 4
_INSTANTS_LIMIT = 6


async def note_lacking_jobs(office: Office, own: Collection[str]) -> None:
    """Until the term ends. :param own: the jobs that this leader has. :raises NotLeader: it has ended."""
    told: tuple[str, ...] = ()
    noted: tuple[tuple[str, ...], set[str]] = (), set()
    noted_at = 0.0
    while True:
        view = office.feed.view
        jobs = lacking_jobs(view, own)
        if jobs and jobs != told:
            emit(Events.LEADS_WITHOUT_JOBS, term=office.token, count=len(jobs), jobs=name_some(jobs))
        told = jobs
        # Looked at once a second: of each change of the feed most concern nothing here.
        state = jobs[:NAMES_LIMIT], _elsewhere(view, office.replica, jobs)
        if jobs and (state != noted or boottime() - noted_at > _NOTE_EVERY_S):
            with suppress(Conflict):  # changed by an operator: the next look writes it again
                await _note(office, *state)
                noted, noted_at = state, boottime()
        await asyncio.sleep(_LOOK_EVERY_S)


def lacking_jobs(view: View, own: Collection[str]) -> tuple[str, ...]:
    """The jobs in force that are not among ``own``, by name."""
    specs = view.records[Kind.SPEC]
    return tuple(
        sorted(job for (job,), stored in specs.items() if job not in own and stored.record.removed is None)
    )


def absences(view: View, job: str, token: int) -> tuple[Absence, ...]:
    """When leaders did not have the job, which the one of term ``token`` has: the latest four times, in order."""
    now = utcnow()
    notes: list[Lacking] = [stored.record for stored in view.records[Kind.LACKING].values()]
    found = [
        Absence(
            since=note.since,
            until=min(now, _until(note)) if note.token != token else now,
            leader=note.replica,
            elsewhere=note.elsewhere.get(job, ()),
        )
        for note in notes
        if job in note.named
    ]
    return tuple(sorted(found, key=lambda absence: absence.since)[-_ABSENCES_LIMIT:])


def settled_notes(view: View, token: int) -> Iterator[Stored[Lacking]]:
    """Notes of other terms than that of ``token`` that may go: every fire in that time is accounted for. Of more than
    twenty, the oldest go in any case."""
    notes: list[Stored[Lacking]] = [
        stored for stored in view.records[Kind.LACKING].values() if stored.record.token != token
    ]
    notes.sort(key=lambda stored: stored.record.token)
    # Once for all notes: each may name ten thousand jobs.
    next_fires = _next_fires(view) if notes else {}
    for index, stored in enumerate(notes):
        until = _until(stored.record)
        is_needed = any(fire <= until and job in stored.record.named for job, fire in next_fires.items())
        if not is_needed or index < len(notes) - _NOTES_LIMIT:
            yield stored


def _next_fires(view: View) -> dict[str, datetime]:
    """Of the jobs in force."""
    fires = {job: stored.record.next_fire for (job,), stored in view.records[Kind.TIMETABLE].items()}
    return {job: fire for job, fire in fires.items() if fire is not None and view.is_in_force(job)}


def _until(note: Lacking) -> datetime:
    """When that was over at the latest: the leader would have said again that it is so."""
    return note.seen + timedelta(seconds=_NOTE_EVERY_S)


def _elsewhere(view: View, leader: str, jobs: Collection[str]) -> set[str]:
    """Those of the jobs that another live replica has."""
    others = [jobs_of(view, replica) for replica in view.members if replica != leader] if jobs else []
    return {job for job in jobs if any(has(job) for has in others)}


def _went_on(
    jobs: Collection[str],
    known: Mapping[str, tuple[datetime, ...]],
    elsewhere: Collection[str],
    now: datetime,
) -> dict[str, tuple[datetime, ...]]:
    """The instants with those of the jobs that came to be elsewhere by ``now``, or are so no more."""
    found = {}
    for job in jobs:
        instants = known.get(job, ())
        was_elsewhere = len(instants) % 2 == 1
        if was_elsewhere is not (job in elsewhere):
            instants = (*instants, now)
        while len(instants) > _INSTANTS_LIMIT:
            instants = instants[2:]
        if instants:
            found[job] = instants
    return found


async def _note(office: Office, jobs: tuple[str, ...], elsewhere: Collection[str]) -> None:
    key, now = office.keys.lacking(office.token), utcnow()
    found = await office.writer.read(key)
    former: Lacking | None = None
    if found is not None:
        with suppress(CorruptRecord):
            record = decode(Kind.LACKING, found).record
            former = record if isinstance(record, Lacking) else None
    note = Lacking(
        token=office.token,
        replica=office.replica,
        since=former.since if former is not None else now,
        seen=now,
        jobs=jobs,
        elsewhere=_went_on(jobs, former.elsewhere if former is not None else {}, elsewhere, now),
    )
    await office.writer.commit(
        [modified_at(key, found.mod_revision if found else 0)], [Put(key, fit_note(note).to_bytes())]
    )


def fit_note(note: Lacking) -> Lacking:
    """With as many of its jobs as a record may have: names can be long, and each may have come and gone elsewhere."""
    while (size_bytes := len(note.to_bytes())) > _SIZE_LIMIT_BYTES:
        jobs = note.jobs[: len(note.jobs) * _SIZE_LIMIT_BYTES // size_bytes]
        elsewhere = {job: note.elsewhere[job] for job in jobs if job in note.elsewhere}
        note = Lacking(**{**note.model_dump(), "jobs": jobs, "elsewhere": elsewhere})
    return note
