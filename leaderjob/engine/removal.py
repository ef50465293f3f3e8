"""Jobs that no replica has any more: their unfinished runs end and their fires stop, and their history stays.

A job is removed once no live member has had it for as long as the settings say, provided that every module of the leader
loaded and defines some job: what failed to load may come back. It is in force again as soon as a live member has it.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime

from leaderjob.clock import boottime, utcnow
from leaderjob.cluster.rank import jobs_of
from leaderjob.engine.admission import Admission
from leaderjob.engine.definition import Assignment
from leaderjob.engine.hold import hold_until, unreaped
from leaderjob.engine.lacking import lacking_jobs
from leaderjob.engine.office import Office
from leaderjob.engine.run_events import tell_over
from leaderjob.etcd import Delete, Put, modified_at
from leaderjob.model.job import JobSpec
from leaderjob.model.run import Outcome, Run
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.scheduling.triggers import parse_schedule
from leaderjob.telemetry.events import Events, emit

REASON = "the job was removed"

_LOOK_EVERY_S = 1.0


class Removal:
    """Removes jobs during one term. :param own: the jobs that this leader has."""

    def __init__(self, office: Office, own: Collection[str]) -> None:
        self._office = office
        self._own = own
        self._absent_since: dict[str, float] = {}

    async def run(self) -> None:
        """Until the term ends. :raises NotLeader: it has ended."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Do what is due by now, once."""
        office = self._office
        view, now = office.feed.view, boottime()
        others = [jobs_of(view, replica) for replica in view.members if replica != office.replica]
        # A record that only a newer release can read may say that its replica has any of them.
        absent = [
            job
            for job in (() if view.newer_members else lacking_jobs(view, self._own))
            if not view.newer_of(job) and all(has(job) is False for has in others)
        ]
        self._absent_since = {job: self._absent_since.get(job, now) for job in absent}
        if self._own and office.all_loaded():
            for job, since in self._absent_since.items():
                if now - since >= office.limits.remove_after_s:
                    await mark_removed(office, job)
        for (job,), stored in list(view.records[Kind.SPEC].items()):
            if stored.record.removed is not None and job not in self._own and not view.newer_of(job):
                async with office.ending:
                    if office.feed.view.get(Kind.SPEC, job) is not stored:
                        continue
                    with suppress(Conflict):  # changed meanwhile: the next look sees what it is now
                        await self._go_on(stored, is_back=any(has(job) for has in others))

    async def _go_on(self, stored: Stored[JobSpec], *, is_back: bool) -> None:
        """With a job that was removed: it may be back, or have something left to end."""
        office, job = self._office, stored.record.name
        if is_back:
            await _write(office, stored, removed=None)
            emit(Events.JOB_RETURNED, job=job, term=office.token)
        elif _has_something_to_end(office, job) and workers_may_live(office, job) is None:
            await end_unfinished(office, job)
            await _end_schedule(office, stored.record)


async def mark_removed(office: Office, job: str) -> None:
    """The definition is not in force any more."""
    stored = office.feed.view.get(Kind.SPEC, job)
    if stored is None or stored.record.removed is not None:
        return
    with suppress(Conflict):  # changed meanwhile: looked at again
        await _write(office, stored, removed=utcnow())
        emit(Events.JOB_REMOVED, job=job, term=office.token)


async def _write(office: Office, stored: Stored[JobSpec], *, removed: datetime | None) -> None:
    spec = stored.record.model_copy(update={"removed": removed, "token": office.token})
    revision = await office.writer.commit(
        [modified_at(stored.key, stored.mod_revision)], [Put(stored.key, spec.to_bytes())]
    )
    await office.feed.until(lambda view: view.revision >= revision)


def workers_may_live(office: Office, job: str) -> Run | None:
    """The run of which a worker may still be alive, by the hold rule; None: there is none."""
    for run in unreaped([stored.record for stored in office.feed.view.runs(job)]):
        attempt = run.attempt
        assert attempt is not None
        if attempt.token == office.token or boottime() < hold_until(attempt, office.leadership.won_at):
            return run
    return None


async def end_unfinished(office: Office, job: str) -> None:
    """End the runs that nobody will go on with. Their workers are gone: see :func:`workers_may_live`.

    :raises Conflict: one of them was changed meanwhile.
    """
    keys = office.keys
    for stored in office.feed.view.unfinished_runs(job):
        done = stored.record.finish(Outcome.ABANDONED, now=utcnow(), reason=REASON)
        revision = await office.writer.commit(
            [modified_at(stored.key, stored.mod_revision)],
            [
                Put(stored.key, done.to_bytes()),
                Delete(keys.staged(done.job, done.id)),
                Delete(keys.progress(done.job, done.id, done.attempt_count)),
            ],
        )
        tell_over(done, term=office.token, trace=None)
        await office.feed.until(lambda view, revision=revision: view.revision >= revision)  # type: ignore[misc]


def _has_something_to_end(office: Office, job: str) -> bool:
    """Asked of every removed job at each look, so it must not go through their histories."""
    return bool(office.feed.view.unfinished_runs(job)) or _has_schedule(office, job)


def _has_schedule(office: Office, job: str) -> bool:
    timetable = office.feed.view.timetable(job)
    return timetable is not None and bool(timetable.record.schedule or timetable.record.next_fire)


async def _end_schedule(office: Office, spec: JobSpec) -> None:
    """Account for the fires that nobody ran, and let there be no next one."""
    if not _has_schedule(office, spec.name):
        return
    ended = spec.model_copy(update={"schedule": ()})
    await Admission(office, Assignment(ended, parse_schedule((), job=spec.name))).open()
