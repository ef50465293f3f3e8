"""One job during one term: its fires and triggers are admitted here, and its runs carried out."""

import asyncio
from collections import deque
from contextlib import suppress

from leaderjob.clock import utcnow
from leaderjob.engine.admission import Admission
from leaderjob.engine.answers import consume, refuse
from leaderjob.engine.definition import Assignment
from leaderjob.engine.dispatch import Dispatch
from leaderjob.engine.newer import until_readable, why_unreadable
from leaderjob.engine.office import Office
from leaderjob.errors import SettingsError
from leaderjob.etcd import AmbiguousWrite, Put, absent, modified_at
from leaderjob.model.command import Command
from leaderjob.model.job import JobSpec
from leaderjob.model.params import check_params
from leaderjob.model.run import Cause, Run, State
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import CorruptRecord, NewerRecord, Stored, decode
from leaderjob.telemetry.events import Events, emit

_ANNOUNCE_TRIES = 5
_READY_WITHIN_S = 10.0


class JobLoop:
    """Overlap is ``forbid``: there is at most one unfinished run, and it is being carried out."""

    def __init__(self, office: Office, assignment: Assignment) -> None:
        self._office = office
        self._assignment = assignment
        self._wanted: Assignment | None = None
        self._spec = assignment.spec.model_copy(update={"token": office.token})
        self._admission = Admission(office, assignment)
        self._dispatch = Dispatch(office, assignment)
        self._pending: deque[Stored[Run]] = deque()
        self._begun = False
        self._in_doubt: dict[str, AmbiguousWrite] = {}
        self._deciding = asyncio.Lock()
        self._opened = asyncio.Event()
        self._work = asyncio.Event()
        self._due = asyncio.Event()

    @property
    def spec(self) -> JobSpec:
        """The definition in force."""
        return self._spec

    @property
    def assigned(self) -> Assignment:
        """The job as it is to be, which it may not be yet."""
        return self._wanted or self._assignment

    def assign(self, assignment: Assignment) -> None:
        """Let the job be another one from now on. It is taken up with the next look at what is due, which is at once,
        and where that breaks, when the loop begins again."""
        if assignment != self.assigned:
            self._wanted = assignment
            self._due.set()

    def sound(self) -> None:
        """The alarm rang: a fire may be due."""
        self._due.set()

    async def run(self) -> None:
        """Until the term ends. :raises NotLeader: it has. :raises TermLost: it is no longer certain."""
        await until_readable(self._office, self._spec.name)
        async with self._deciding:
            if self._wanted is not None:
                self._admission = Admission(self._office, self._wanted)
                self._become(self._wanted)
            if self._begun:
                await self._admission.settle()
                await self._settle_triggers()
            self._begun = True
            announced = await self._announce()
            # What this term wrote before its job's loop broke may not be in the view yet.
            await self._office.feed.until(lambda view: view.revision >= announced, job=self._spec.name)
            self._pending = deque(self._office.feed.view.unfinished_runs(self._spec.name))
            await self._admission.open()
        self.sound()
        self._opened.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._account_for_fires(), name=f"fires of {self._spec.name}")
                group.create_task(self._carry_out_runs(), name=f"runs of {self._spec.name}")
        finally:
            self._opened.clear()

    async def _account_for_fires(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if self._office.stepdown.asked:
                continue  # what is due from now on is for the next term
            await until_readable(self._office, self._spec.name)
            async with self._deciding:
                for doubt in self._in_doubt.values():
                    raise doubt  # to begin anew: there may be a run that is not among the pending
                if self._wanted is not None:
                    await self._change(self._wanted)
                self._take_on(await self._admission.admit_due(self._active_run))

    async def _change(self, wanted: Assignment) -> None:
        self._take_on(await self._admission.change(wanted, self._active_run))
        self._become(wanted)
        await self._announce()
        emit(
            Events.JOB_CHANGED,
            job=self._spec.name,
            term=self._office.token,
            overridden=",".join(self._spec.overridden) or "nothing",
        )

    def _become(self, wanted: Assignment) -> None:
        self._assignment = wanted
        self._spec = wanted.spec.model_copy(update={"token": self._office.token})
        self._dispatch.change(wanted)
        if self._wanted is wanted:
            self._wanted = None

    def _take_on(self, admitted: Stored[Run] | None) -> None:
        if admitted is not None:
            self._pending.append(admitted)
            self._work.set()

    async def _carry_out_runs(self) -> None:
        while True:
            while self._pending and not self._office.stepdown.asked:
                done = await self._dispatch.carry_out(self._pending[0])
                if done.outcome is not None:
                    self._pending.popleft()
            self._work.clear()
            await self._work.wait()

    @property
    def busy(self) -> bool:
        """Whether an attempt is under way."""
        return self._dispatch.busy

    async def idle(self) -> None:
        """Return when no attempt is under way."""
        await self._dispatch.idle()

    async def trigger(self, command: Stored[Command]) -> None:
        """Carry a trigger out, or refuse it: its effect, its outcome and its consumption are one write.

        Waits until it is known which runs earlier terms left unfinished.

        :raises AmbiguousWrite: nobody knows whether it was carried out: take it again. What it has admitted is carried
            out all the same.
        """
        waits = why_unreadable(self._office.feed.view, self._spec.name)
        if waits is not None:
            await refuse(self._office, command, waits)
            return
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await self._opened.wait()
        except TimeoutError:
            # Commands are taken in order: one job that cannot begin must not keep those of the others.
            await refuse(self._office, command, "the job cannot begin; the leader's log says why")
            return
        async with self._deciding:
            reason = self._why_not(command.record)
            if reason is not None:
                await refuse(self._office, command, reason)
                return
            run = Run(
                id=command.record.id,
                job=self._spec.name,
                cause=Cause.TRIGGER,
                state=State.ADMITTED,
                created=utcnow(),
                params={**self._spec.params, **command.record.params},
            )
            try:
                await self._admit(command, run)
            except Conflict:
                await self._answer_repeated(command, run)
            except AmbiguousWrite as doubt:
                self._in_doubt[command.key] = doubt
                self._due.set()
                raise

    async def _admit(self, command: Stored[Command], run: Run) -> None:
        """:raises Conflict: the command was changed, or there is a run with its id."""
        key = self._office.keys.run(run.job, run.id)
        done = command.record.model_copy(
            update={"done": run.created, "accepted": True, "outcome": f"run {run.id} was admitted"}
        )
        revision = await self._office.writer.commit(
            [modified_at(command.key, command.mod_revision), absent(key)],
            [Put(command.key, done.to_bytes()), Put(key, run.to_bytes())],
        )
        emit(Events.RUN_ADMITTED, job=run.job, run=run.id, by=command.record.by, term=self._office.token)
        self._pending.append(Stored(key, run, revision, revision))
        self._work.set()

    async def _settle_triggers(self) -> None:
        """As :meth:`Admission.settle`: what a trigger admitted is in the ledger now, or never will be."""
        for key in list(self._in_doubt):
            await self._office.writer.settle(key)
            del self._in_doubt[key]

    async def _answer_repeated(self, command: Stored[Command], run: Run) -> None:
        """The command's id is its idempotency key: it admitted its run before, or the id is another run's.

        :raises Conflict: neither; the command was changed.
        """
        found = await self._office.writer.read(self._office.keys.run(run.job, run.id))
        if found is None:
            raise Conflict(f"command {command.record.id} was changed or withdrawn meanwhile")
        try:
            before = decode(Kind.RUN, found).record
        except (CorruptRecord, NewerRecord):
            before = None
        if isinstance(before, Run) and (before.cause, before.params) == (Cause.TRIGGER, run.params):
            await consume(self._office, command, accepted=True, outcome=f"run {run.id} was admitted before")
        else:
            await refuse(
                self._office, command, f"another run is called {run.id}: trigger again, with another id"
            )

    @property
    def _active_run(self) -> str | None:
        """Whoever sees in the ledger that a run is over may trigger the next one at once."""
        active = (run.record.id for run in self._pending if not self._dispatch.is_over(run))
        return next(active, None)

    def _why_not(self, command: Command) -> str | None:
        if self._active_run is not None:
            return f"overlap is forbidden, and run {self._active_run} is not finished"
        try:
            check_params(self._spec, {**self._spec.params, **command.params})
        except SettingsError as error:
            return str(error)
        return None

    async def _announce(self) -> int:
        """Write the definition in force; returns the revision. :raises NewerRecord: a newer release has written one."""
        key = self._office.keys.spec(self._spec.name)
        for _ in range(_ANNOUNCE_TRIES):
            found = await self._office.writer.read(key)
            if found is not None:
                with suppress(CorruptRecord):  # ours is the definition in force
                    decode(Kind.SPEC, found)
            try:
                return await self._office.writer.commit(
                    [modified_at(key, found.mod_revision if found else 0)], [Put(key, self._spec.to_bytes())]
                )
            except Conflict:
                continue  # somebody else's hand was in it; ours is the definition in force
        raise Conflict(
            f"the definition of job {self._spec.name} is being changed by somebody else all the time"
        )
