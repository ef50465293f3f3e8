"""One run, from admitted to done: its attempts, and what each end leads to."""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from leaderjob.clock import boottime, utcnow
from leaderjob.engine.artifact_directory import holds_results, make_empty, tidy
from leaderjob.engine.definition import Assignment
from leaderjob.engine.hold import hold, hold_after_own, unreaped
from leaderjob.engine.leader_loss import abandon, settle
from leaderjob.engine.newer import until_readable
from leaderjob.engine.office import Office
from leaderjob.engine.progress import ProgressWriter
from leaderjob.engine.publication import publish
from leaderjob.engine.retry import retry_pause_s
from leaderjob.engine.run_events import tell_begun, tell_failed, tell_over
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import (
    Delete,
    EtcdError,
    NobodyKnown,
    Op,
    PermissionDenied,
    Put,
    RequestRefused,
    modified_at,
)
from leaderjob.execution.ahead import WorkerAhead
from leaderjob.execution.attempt import AttemptEnd, run_attempt
from leaderjob.execution.attestation import Attestation
from leaderjob.execution.protocol import WorkerRequest
from leaderjob.execution.trust import TRUST_POLL_S
from leaderjob.model.run import Outcome, Run
from leaderjob.model.text import BRIEF_CHARS, printable
from leaderjob.recipes import NotLeader, TermLost
from leaderjob.records.fenced import Conflict
from leaderjob.records.stored import Stored
from leaderjob.results.errors import NotEnoughSpace, TooLarge, Unpublishable
from leaderjob.telemetry.trace import Trace

_HAND_OVER_TIMEOUT_S = 2.0
_BEGUN_AGAIN = "the leader stopped it, to begin again with the job"


class Dispatch:
    """Carries one job's runs out, one after the other."""

    def __init__(self, office: Office, assignment: Assignment) -> None:
        self._office = office
        self._spec = assignment.spec
        self._over: str | None = None
        self._unreaped_since: float | None = None
        self._trace: Trace | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether an attempt is under way: from when it is recorded until it is tidied up after. A run that waits,
        for a retry or for workers of an older term, is as well with the next term."""
        return not self._idle.is_set()

    async def idle(self) -> None:
        """Return when no attempt is under way."""
        await self._idle.wait()

    def change(self, assignment: Assignment) -> None:
        """The job is another one from now on: what an attempt that begins, or ends, goes by."""
        self._spec = assignment.spec

    def is_over(self, run: Stored[Run]) -> bool:
        """Whether the ledger has that run as over by now, though it may still be tidied up after it."""
        return self._over == run.record.id

    async def carry_out(self, run: Stored[Run]) -> Run:
        """Bring an unfinished run to its end; returns it as it ended, or unfinished where the term is to step down.

        Cancelled, it stops the worker, waits until its processes are gone, and records that.

        :raises NotLeader: the term is over. :raises TermLost: its trust deadline has passed.
        """
        self._trace = None
        ready = run
        while ready.record.outcome is None:
            await asyncio.sleep(ready.record.retry_pause_s(utcnow()))
            await until_readable(self._office, self._spec.name)
            if self._office.stepdown.asked:
                return ready.record
            try:
                ready = await self._attempt(ready)
            finally:
                self._idle.set()
        tell_over(ready.record, term=self._office.token, trace=self._trace)
        return ready.record

    async def _after_former_attempt(self, run: Stored[Run]) -> Stored[Run]:
        """Settle what was left behind: wait for the workers, then restart or abandon the run.

        An unfinished attempt of this very term was left by the part of it that broke and began again. The job
        is not to blame, so that costs none of its retries; it counts as a lost leader, so that it cannot go
        on for ever.
        """
        await hold(self._office, run.record)
        settled = self._settled(run.record)
        return await self._write(run, settled) if settled is not run.record else run

    def _settled(self, run: Run) -> Run:
        """What becomes of the run now that its former attempt, if it has had any, is over."""
        return settle(
            run,
            self._spec.policy,
            token=self._office.token,
            now=utcnow(),
            workers_gone=self._workers_gone,
        )

    async def _attempt(self, run: Stored[Run]) -> Stored[Run]:
        """Settle the former attempt, and make the next: returns the run done, or ready for another one. None begins
        any more when the term was asked to step down.

        Where it cannot have a directory it fails without a worker, and the job's retries apply.
        """
        office = self._office
        if self._settled(run.record).outcome is not None:
            return await self._after_former_attempt(run)
        directory = office.work_dir / self._spec.name / f"{run.record.id}-{run.record.attempt_count + 1}"
        # A name that comes once: on a disk that hangs, what makes or removes it may do so late.
        artifact_dir = directory / f"artifact-{secrets.token_hex(4)}"
        try:
            # Before the attempt is recorded: from then on whoever finds it unfinished takes its leader for lost.
            problem = await asyncio.to_thread(make_empty, artifact_dir)
            with office.attestation() as attest:
                async with WorkerAhead(
                    log_path=directory / "output.log",
                    cwd=office.cwd,
                    grace_s=office.limits.kill_grace_s,
                    attestation=attest,
                ) as worker:
                    settled = await self._after_former_attempt(run)
                    await self._wait_for_the_unreaped(settled.record)
                    await self._wait_for_trust()
                    await worker.replace_dead()
                    if office.stepdown.asked:
                        return settled
                    self._idle.clear()
                    begun = await self._begin_or_hand_over(settled, attest)
                    if begun.record.outcome is not None:
                        return begun
                    return await self._work(begun, artifact_dir, worker, problem)
        finally:
            await tidy(artifact_dir)

    async def _begin_or_hand_over(self, run: Stored[Run], attest: Attestation | None) -> Stored[Run]:
        """Where it is cancelled, etcd may record the attempt all the same; then nobody has to wait for its workers."""
        beginning = asyncio.ensure_future(self._begin(run, attest))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            await asyncio.wait([beginning], timeout=_HAND_OVER_TIMEOUT_S)
            if beginning.done() and not beginning.cancelled() and beginning.exception() is None:
                await self._hand_over(beginning.result())
            raise
        finally:
            beginning.cancel()

    async def _begin(self, run: Stored[Run], attest: Attestation | None) -> Stored[Run]:
        office = self._office
        begun = await self._write(
            run,
            run.record.begin(
                token=office.token,
                replica=office.replica,
                ttl_s=office.leadership.session.ttl_s,
                now=utcnow(),
                guard=attest.address if attest else None,
                nonce=attest.nonce if attest else None,
            ),
        )
        if begun.record.outcome is not None:
            return begun
        tell_begun(begun.record, term=office.token)
        return begun

    async def _work(
        self, begun: Stored[Run], artifact_dir: Path, worker: WorkerAhead, problem: str | None
    ) -> Stored[Run]:
        """:param problem: why there is no directory."""
        try:
            end = AttemptEnd(Outcome.FAILED, problem)
            if problem is None:
                end = await self._guarded(begun, artifact_dir, worker)
            self._trace = end.traceback
            return await self._record(begun, artifact_dir, end)
        except asyncio.CancelledError:
            await self._hand_over(begun)
            raise

    async def _record(self, begun: Stored[Run], artifact_dir: Path, end: AttemptEnd) -> Stored[Run]:
        """Record how the attempt ended. What cannot be recorded is the run's failure: with the attempt left open, the
        next look at it would take its leader for lost, and start it again."""
        try:
            if end.outcome is Outcome.SUCCEEDED:
                return await self._succeed(begun, artifact_dir, end)
            return await self._fail(begun, end)
        except (TermLost, NotLeader, Conflict):
            raise  # the record is for somebody else to write
        except Exception as error:
            if isinstance(error, EtcdError) and not _is_refused(error):
                raise  # no other record could be written either
            if not isinstance(error, LeaderjobError):
                self._trace = Trace.of(error)
            before = "" if end.reason is None else f"{end.reason}; "
            reason = f"{before}its outcome cannot be recorded: {_told(error)}"
            failed = begun.record.finish(
                Outcome.FAILED, now=utcnow(), reason=reason, workers_gone=self._workers_gone
            )
            return await self._write(begun, failed)

    async def _wait_for_the_unreaped(self, run: Run) -> None:
        """Other runs of the job may have left processes as well: in this term, or in the one before."""
        office = self._office
        for other in unreaped([stored.record for stored in office.feed.view.runs(run.job)]):
            await hold(office, other)
        if self._unreaped_since is not None:
            await hold_after_own(office, run, self._unreaped_since)
            self._unreaped_since = None

    async def _wait_for_trust(self) -> None:
        """Return when a worker that starts now is not about to be stopped. :raises TermLost: the term is over."""
        leadership = self._office.leadership
        leadership.check()
        # A clock is awaited, and a confirmation that moves the deadline.
        while boottime() >= leadership.trusted_until - self._office.limits.kill_grace_s:
            await asyncio.sleep(TRUST_POLL_S)
            leadership.check()

    async def _guarded(self, run: Stored[Run], artifact_dir: Path, worker: WorkerAhead) -> AttemptEnd:
        office, spec = self._office, self._spec
        number = run.record.attempt_count
        request = WorkerRequest(
            reference=spec.reference,
            job=spec.name,
            run_id=run.record.id,
            attempt=number,
            fencing_token=office.token,
            fire_time=run.record.fire_time,
            params=run.record.params,
            artifact_dir=artifact_dir,
            previous=office.previous(spec.name),
            cwd=office.cwd,
        )
        progress = ProgressWriter(office, run, number)
        writing = asyncio.create_task(progress.run(), name=f"progress of {spec.name}")
        try:
            await self._wait_for_trust()  # again: to write that it begins may have taken long
            return await run_attempt(
                request,
                worker,
                timeout_s=spec.policy.timeout_s,
                trusted_until=lambda: office.leadership.trusted_until,
                on_progress=progress.report,
                on_gone=self._note_end,
            )
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    def _note_end(self, reaped: bool) -> None:
        self._unreaped_since = None if reaped else boottime()

    @property
    def _workers_gone(self) -> bool:
        return self._unreaped_since is None

    async def _hand_over(self, run: Stored[Run]) -> None:
        """The worker was stopped in order; if it is gone, say so, and nobody has to wait.

        The term may be ending, or only the part of it that carries out this job.
        Where the attempt has been recorded as ended already, this conflicts, and changes nothing.
        """
        if not self._office.leadership.trusted:
            return
        stepdown = self._office.stepdown
        reason = f"the leader stepped down: {stepdown.reason}" if stepdown.asked else _BEGUN_AGAIN
        ended = run.record.end_attempt(
            Outcome.ABANDONED,
            now=utcnow(),
            reason=reason,
            workers_gone=self._workers_gone,
            handed_over=stepdown.in_order,
        )
        with suppress(LeaderjobError, TimeoutError):
            async with asyncio.timeout(_HAND_OVER_TIMEOUT_S):
                await self._write(run, ended)

    async def _succeed(self, run: Stored[Run], artifact_dir: Path, end: AttemptEnd) -> Stored[Run]:
        gone = self._workers_gone
        # The attempt is over with its worker; what becomes of the result is a matter of the run.
        ended = run.record.end_attempt(Outcome.SUCCEEDED, now=utcnow(), workers_gone=gone)
        if end.result is None and not await asyncio.to_thread(holds_results, artifact_dir):
            return await self._write(run, ended.finish(Outcome.SUCCEEDED, now=utcnow()))
        try:
            done = await publish(self._office, replace(run, record=ended), artifact_dir, end.result)
            self._over = done.id
        except (Unpublishable, TooLarge, NotEnoughSpace) as error:
            reason = f"its result: {error}"
            failed = run.record.finish(Outcome.FAILED, now=utcnow(), reason=reason, workers_gone=gone)
            return await self._write(run, failed)
        return Stored(run.key, done, run.create_revision, run.mod_revision)

    async def _fail(self, run: Stored[Run], end: AttemptEnd) -> Stored[Run]:
        """Try again where that is allowed and makes sense, else end the run."""
        self._office.leadership.check()
        now, gone = utcnow(), self._workers_gone
        if end.outcome is Outcome.ABANDONED:
            reason = end.reason or "the term could not be trusted any more"
            abandoned = abandon(run.record, self._spec.policy, reason, now=now, workers_gone=gone)
            return await self._write(run, abandoned)
        failures = 1 + run.record.failed_attempts
        may_retry = end.outcome in (Outcome.FAILED, Outcome.TIMED_OUT) and not end.permanent
        if not may_retry or failures > self._spec.policy.retries:
            finished = run.record.finish(end.outcome, now=now, reason=end.reason, workers_gone=gone)
            return await self._write(run, finished)
        ended = run.record.end_attempt(end.outcome, now=now, reason=end.reason, workers_gone=gone)
        pause_s = retry_pause_s(
            attempts=ended.attempt_count,
            failures=failures,
            asked_s=end.retry_after_s,
            record_bytes=len(ended.to_bytes()),
        )
        written = await self._write(run, ended.retry_after(pause_s))
        if written.record.outcome is not None:
            return written
        tell_failed(ended, again_in_s=pause_s, term=self._office.token, trace=end.traceback)
        return written

    async def _write(self, before: Stored[Run], after: Run) -> Stored[Run]:
        """One transition. A record that etcd refuses, which is larger than it takes, ends the run, and goes without its
        parameters."""
        try:
            written, revision = after, await self._commit(before, after)
        except RequestRefused as error:
            if not _is_refused(error):
                raise
            written = after if after.outcome is not None else after.finish(Outcome.FAILED, now=utcnow())
            reason = written.reason or f"its record is kept without its parameters: {error}"
            written = written.model_copy(update={"params": {}, "reason": printable(reason, BRIEF_CHARS)})
            revision = await self._commit(before, written)
        if written.outcome is not None:
            self._over = written.id
        return Stored(before.key, written, before.create_revision, revision)

    async def _commit(self, before: Stored[Run], after: Run) -> int:
        """The progress of an attempt that is over goes with it, and what it had staged: nobody will publish that, and
        followers would go on asking for it."""
        keys = self._office.keys
        ops: list[Op] = [Put(before.key, after.to_bytes())]
        if after.attempt is not None and after.attempt.ended is not None:
            ops.append(Delete(keys.progress(after.job, after.id, after.attempt.number)))
            ops.append(Delete(keys.staged(after.job, after.id)))
        try:
            return await self._office.writer.commit([modified_at(before.key, before.mod_revision)], ops)
        except Conflict as conflict:
            raise Conflict(
                f"the record of run {after.id} of {after.job} was changed by somebody else"
            ) from conflict


def _is_refused(error: EtcdError) -> bool:
    """Whether etcd refuses what this record is, and not who writes it."""
    return isinstance(error, RequestRefused) and not isinstance(error, PermissionDenied | NobodyKnown)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, LeaderjobError) else f"{type(error).__name__}: {error}"
