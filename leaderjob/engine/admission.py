"""Turning due fires into runs: the plan, written in one fenced transaction with the watermark."""

from dataclasses import replace
from datetime import datetime

from leaderjob.clock import utcnow
from leaderjob.engine.definition import Assignment
from leaderjob.engine.lacking import absences
from leaderjob.engine.office import Office
from leaderjob.errors import InvalidSchedule
from leaderjob.etcd import Put, Txn, absent, modified_at
from leaderjob.model.ids import fire_id
from leaderjob.model.job import JobSpec, Timetable
from leaderjob.model.run import Cause, FireRange, Outcome, Run, State
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored, decode
from leaderjob.scheduling.absence import Absence, missed_between
from leaderjob.scheduling.plan import Plan, Refusal, plan
from leaderjob.scheduling.triggers import parse_schedule
from leaderjob.telemetry.events import Events, emit


class Admission:
    """The timetable of one job: its watermark, and what becomes of the fires that are due."""

    def __init__(self, office: Office, assignment: Assignment) -> None:
        self._office = office
        self._spec = assignment.spec
        self._trigger = assignment.trigger
        self._key = office.keys.timetable(assignment.spec.name)
        self._timetable: Stored[Timetable] | None = None

    async def open(self) -> None:
        """Read the timetable, or begin it now. A job that is new has missed nothing."""
        found = await self._read()
        if found is None:
            known = [run.record.fire_time for run in self._office.feed.view.runs(self._spec.name)]
            now = utcnow()
            start = max((fire for fire in known if fire is not None), default=now)
            new = self._timetable_at(start, self._trigger.next_after(start))
            revision = await self._office.writer.commit(
                [modified_at(self._key, 0)], [Put(self._key, new.to_bytes())]
            )
            found = Stored(self._key, new, revision, revision)
        if _schedule_of(found.record) != _schedule_of(self._spec):
            found = await self._change_schedule(found)
        self._timetable = found

    async def settle(self) -> None:
        """Let no admission land any more that was sent before and got no answer.
        Those that did land are in the ledger from now on. :raises NotLeader: the term is over."""
        await self._office.writer.settle(self._key)

    async def admit_due(self, active_run: str | None) -> Stored[Run] | None:
        """Account for every fire that is due; returns the run that was admitted, if any.

        Re-arms the alarm for the next fire. :raises NotLeader: the term is over.
        """
        while True:
            if self._timetable is None:
                await self.open()
            timetable = self._timetable
            assert timetable is not None
            now = utcnow()
            decision = plan(
                self._trigger,
                watermark=timetable.record.watermark,
                now=now,
                misfire_grace_s=self._spec.policy.misfire_grace_s,
                active_run=active_run,
                absences=self._absences(),
            )
            self._arm(decision.next_fire)
            wanted = self._timetable_at(decision.watermark, decision.next_fire, timetable.record)
            if wanted == timetable.record:
                return None
            try:
                self._timetable, admitted = await self._write(timetable, wanted, decision, now)
                return admitted
            except Conflict:
                self._timetable = None

    async def change(self, assignment: Assignment, active_run: str | None) -> Stored[Run] | None:
        """The job is another one from now on; returns the run that was admitted, if any.

        What is due of the former schedule is accounted for as ever, in the transaction that begins the new one: it
        begins with the instant up to which the former one was accounted for, so that no fire is lost or repeated.

        :raises NotLeader: the term is over.
        """
        admitted = None
        if _schedule_of(assignment.spec) != _schedule_of(self._spec):
            admitted = await self._end_schedule(assignment, active_run)
        self._spec, self._trigger = assignment.spec, assignment.trigger
        return admitted

    async def _end_schedule(self, assignment: Assignment, active_run: str | None) -> Stored[Run] | None:
        while True:
            timetable = await self._read()
            if timetable is None or _schedule_of(timetable.record) != _schedule_of(self._spec):
                self._timetable = None  # whatever it is of, it is begun anew before it is used
                return None
            now = utcnow()
            due = plan(
                self._trigger,
                watermark=timetable.record.watermark,
                now=now,
                misfire_grace_s=self._spec.policy.misfire_grace_s,
                active_run=active_run,
                absences=self._absences(),
            )
            start = max(due.watermark, now)
            decision = replace(due, watermark=start, next_fire=assignment.trigger.next_after(start))
            wanted = _timetable(assignment.spec, start, decision.next_fire, timetable.record)
            try:
                self._timetable, admitted = await self._write(timetable, wanted, decision, now)
            except Conflict:
                continue
            self._arm(decision.next_fire)
            return admitted

    async def _write(
        self, timetable: Stored[Timetable], wanted: Timetable, decision: Plan, now: datetime
    ) -> tuple[Stored[Timetable], Stored[Run] | None]:
        """The watermark and the runs, at one revision. A run is created only if its key is free, each
        in a nested transaction, so that one occupied key blocks one fire and not the job."""
        admitted = self._admitted(decision.admit, now) if decision.admit else None
        refused = [self._refused(refusal, now) for refusal in decision.refused]
        runs = list(refused)
        if admitted is not None:
            runs.append(admitted)
        ops: list[Put | Txn] = [Put(self._key, wanted.to_bytes())]
        for run in runs:
            key = self._office.keys.run(run.job, run.id)
            ops.append(Txn((absent(key),), (Put(key, run.to_bytes()),)))
        committed = await self._office.writer.commit_nested(
            [modified_at(self._key, timetable.mod_revision)], ops
        )
        for refusal, run in zip(decision.refused, refused, strict=True):
            emit(
                Events.FIRES_REFUSED,
                job=run.job,
                run=run.id,
                outcome=refusal.outcome,
                count=refusal.fires.count,
                reason=refusal.reason,
                code=refusal.code,
                term=self._office.token,
            )
        written = Stored(self._key, wanted, timetable.create_revision, committed.revision)
        if admitted is None:
            return written, None
        if not committed.nested[-1]:
            emit(
                Events.FIRES_REFUSED,
                job=admitted.job,
                run=admitted.id,
                reason="its key is occupied: there is a record of that run already",
                term=self._office.token,
            )
            return written, None
        emit(Events.RUN_ADMITTED, job=admitted.job, run=admitted.id, term=self._office.token)
        key = self._office.keys.run(admitted.job, admitted.id)
        return written, Stored(key, admitted, committed.revision, committed.revision)

    async def _change_schedule(self, old: Stored[Timetable]) -> Stored[Timetable]:
        """The schedule is another one now. What was due of the old one is accounted for as missed; the
        new one starts with the present."""
        now = utcnow()
        try:
            trigger = parse_schedule(old.record.schedule, job=self._spec.name, time_zone=old.record.time_zone)
        except InvalidSchedule:
            trigger = parse_schedule((), job=self._spec.name)
        refused = tuple(
            Refusal(
                missed.fires,
                Outcome.MISSED,
                f"{'due before the job was removed' if self._spec.removed else 'due under the former schedule'}, "
                f"while {missed.why}",
                "schedule_changed",
            )
            for missed in missed_between(trigger, old.record.watermark, now, self._absences())
        )
        start = max(old.record.watermark, now)
        decision = Plan(start, self._trigger.next_after(start), admit=None, refused=refused)
        wanted = self._timetable_at(decision.watermark, decision.next_fire, old.record)
        written, _ = await self._write(old, wanted, decision, now)
        return written

    def _absences(self) -> tuple[Absence, ...]:
        return absences(self._office.feed.view, self._spec.name, self._office.token)

    def _timetable_at(
        self, watermark: datetime, next_fire: datetime | None, before: Timetable | None = None
    ) -> Timetable:
        return _timetable(self._spec, watermark, next_fire, before)

    async def _read(self) -> Stored[Timetable] | None:
        found = await self._office.writer.read(self._key)
        if found is None:
            return None
        stored = decode(Kind.TIMETABLE, found)
        assert isinstance(stored.record, Timetable)
        return Stored(stored.key, stored.record, stored.create_revision, stored.mod_revision)

    def _arm(self, next_fire: datetime | None) -> None:
        if next_fire is None:
            self._office.alarm.clear(self._spec.name)
        else:
            self._office.alarm.set(self._spec.name, next_fire)

    def _admitted(self, fire_time: datetime, now: datetime) -> Run:
        return Run(
            id=fire_id(fire_time),
            job=self._spec.name,
            cause=Cause.SCHEDULE,
            state=State.ADMITTED,
            created=now,
            fire_time=fire_time,
            params=self._spec.params,
        )

    def _refused(self, refusal: Refusal, now: datetime) -> Run:
        fires: FireRange = refusal.fires
        single = fires.count == 1
        suffix = "" if single and refusal.outcome is Outcome.SKIPPED else f"-{refusal.outcome}"
        return Run(
            id=fire_id(fires.last) + suffix,
            job=self._spec.name,
            cause=Cause.SCHEDULE,
            state=State.DONE,
            created=now,
            fire_time=fires.last,
            fires=None if single else fires,
            outcome=refusal.outcome,
            reason=refusal.reason,
            ended=now,
        )


def _timetable(
    spec: JobSpec, watermark: datetime, next_fire: datetime | None, before: Timetable | None = None
) -> Timetable:
    """:param before: keeps what a newer release has added to it."""
    schedule, time_zone = _schedule_of(spec)
    fields = {"watermark": watermark, "next_fire": next_fire, "schedule": schedule, "time_zone": time_zone}
    return Timetable.model_validate(fields) if before is None else before.model_copy(update=fields)


def _schedule_of(one: JobSpec | Timetable) -> tuple[tuple[str, ...], str]:
    """Where a schedule cannot be used, nothing of it is due, and so nothing of it will have been missed."""
    cannot_fire = isinstance(one, JobSpec) and one.schedule_error is not None
    return () if cannot_fire else one.schedule, one.time_zone
