"""One run, from admitted to done: its attempts, and what each end leads to."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

from leaderjob.clock import utcnow
from leaderjob.engine.hold import hold
from leaderjob.engine.office import Assignment, Office
from leaderjob.engine.progress import ProgressWriter
from leaderjob.engine.publication import publish
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import Delete, Op, Put, modified_at
from leaderjob.execution.attempt import AttemptEnd, run_attempt
from leaderjob.execution.protocol import WorkerRequest
from leaderjob.model.job import OnLeaderLoss
from leaderjob.model.run import Outcome, Run
from leaderjob.records.fenced import Conflict
from leaderjob.records.stored import Stored
from leaderjob.results.errors import NotEnoughSpace, TooLarge, Unpublishable
from leaderjob.telemetry.events import Events, emit

_FIRST_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 60.0
_HAND_OVER_TIMEOUT_S = 2.0


class Dispatch:
    """Carries one job's runs out, one after the other."""

    def __init__(self, office: Office, assignment: Assignment) -> None:
        self._office = office
        self._spec = assignment.spec
        self._over: str | None = None

    def is_over(self, run: Stored[Run]) -> bool:
        """Whether the ledger has that run as over by now, though it may still be tidied up after it."""
        return self._over == run.record.id

    async def carry_out(self, run: Stored[Run]) -> Run:
        """Bring an unfinished run to its end; returns it as it ended.

        Cancelled, it stops the worker, waits until its processes are gone, and records that.

        :raises NotLeader: the term is over. :raises TermLost: its trust deadline has passed.
        """
        ready = await self._after_former_term(run)
        while ready.record.outcome is None:
            ready = await self._attempt(ready)
        done = ready.record
        emit(
            Events.RUN_FINISHED,
            job=done.job,
            run=done.id,
            term=self._office.token,
            outcome=done.outcome,
            reason=done.reason,
            version=done.version,
        )
        return done

    async def _after_former_term(self, run: Stored[Run]) -> Stored[Run]:
        """Settle what an older term left: wait for its workers, then restart or abandon the run."""
        if run.record.attempt is None:
            return run
        await hold(self._office, run.record)
        settled = run.record
        now = utcnow()
        if settled.attempt and settled.attempt.ended is None:
            reason = f"the leader of term {settled.attempt.token} ({settled.attempt.replica}) was lost"
            settled = settled.end_attempt(Outcome.ABANDONED, now=now, reason=reason)
        policy = self._spec.policy
        if policy.on_leader_loss is OnLeaderLoss.ABANDON and settled.leader_losses:
            settled = settled.finish(
                Outcome.ABANDONED,
                now=now,
                reason="its leader was lost, and the job asks for at most one start",
            )
        elif settled.leader_losses > policy.max_leader_losses:
            settled = settled.finish(
                Outcome.ABANDONED, now=now, reason=f"its leader was lost {settled.leader_losses} times"
            )
        return await self._write(run, settled) if settled is not run.record else run

    async def _attempt(self, run: Stored[Run]) -> Stored[Run]:
        """One attempt: returns the run done, or ready for the next attempt."""
        office = self._office
        office.leadership.check()
        begun = await self._write(
            run,
            run.record.begin(
                token=office.token,
                replica=office.replica,
                ttl_s=office.leadership.session.ttl_s,
                now=utcnow(),
            ),
        )
        number = len(begun.record.attempts)
        directory = office.work_dir / self._spec.name / f"{begun.record.id}-{number}"
        artifact_dir = directory / "artifact"
        await asyncio.to_thread(_make_empty, artifact_dir)
        emit(Events.RUN_STARTED, job=self._spec.name, run=begun.record.id, attempt=number, term=office.token)
        try:
            end = await self._work(begun, number, directory, artifact_dir)
            if end.outcome is Outcome.SUCCEEDED:
                return await self._succeed(begun, artifact_dir, end)
            return await self._fail(begun, end)
        except asyncio.CancelledError:
            await self._hand_over(begun)
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, artifact_dir, ignore_errors=True)

    async def _work(self, run: Stored[Run], number: int, directory: Path, artifact_dir: Path) -> AttemptEnd:
        office, spec = self._office, self._spec
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
            office.leadership.check()
            return await run_attempt(
                request,
                log_path=directory / "output.log",
                timeout_s=spec.policy.timeout_s,
                grace_s=office.limits.kill_grace_s,
                trusted_until=lambda: office.leadership.trusted_until,
                on_progress=progress.report,
            )
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _hand_over(self, run: Stored[Run]) -> None:
        """The term is ending in order, and the worker is gone: say so, and nobody has to wait.

        Where the attempt has been recorded as ended already, this conflicts, and changes nothing.
        """
        if not self._office.leadership.trusted:
            return
        ended = run.record.end_attempt(
            Outcome.ABANDONED, now=utcnow(), reason="the leader stepped down", workers_gone=True
        )
        with suppress(LeaderjobError, TimeoutError):
            async with asyncio.timeout(_HAND_OVER_TIMEOUT_S):
                await self._write(run, ended)

    async def _succeed(self, run: Stored[Run], artifact_dir: Path, end: AttemptEnd) -> Stored[Run]:
        if end.result is None and not await asyncio.to_thread(_has_entries, artifact_dir):
            return await self._write(run, run.record.finish(Outcome.SUCCEEDED, now=utcnow()))
        try:
            done = await publish(self._office, run, artifact_dir, end.result)
            self._over = done.id
        except (Unpublishable, TooLarge, NotEnoughSpace) as error:
            return await self._write(
                run, run.record.finish(Outcome.FAILED, now=utcnow(), reason=f"its result: {error}")
            )
        return Stored(run.key, done, run.create_revision, run.mod_revision)

    async def _fail(self, run: Stored[Run], end: AttemptEnd) -> Stored[Run]:
        """Try again where that is allowed and makes sense, else end the run."""
        self._office.leadership.check()
        now = utcnow()
        failures = 1 + sum(
            attempt.outcome in (Outcome.FAILED, Outcome.TIMED_OUT) for attempt in run.record.attempts
        )
        may_retry = end.outcome in (Outcome.FAILED, Outcome.TIMED_OUT) and not end.permanent
        if not may_retry or failures > self._spec.policy.retries:
            return await self._write(run, run.record.finish(end.outcome, now=now, reason=end.reason))
        ended = await self._write(run, run.record.end_attempt(end.outcome, now=now, reason=end.reason))
        await asyncio.sleep(end.retry_after_s if end.retry_after_s is not None else backoff_s(failures))
        return ended

    async def _write(self, before: Stored[Run], after: Run) -> Stored[Run]:
        """One transition. The progress of an attempt that is over goes with it, and what it had staged:
        nobody will publish that, and followers would go on asking for it."""
        keys = self._office.keys
        ops: list[Op] = [Put(before.key, after.to_bytes())]
        if after.attempt is not None and after.attempt.ended is not None:
            ops.append(Delete(keys.progress(after.job, after.id, after.attempt.number)))
            ops.append(Delete(keys.staged(after.job, after.id)))
        try:
            revision = await self._office.writer.commit([modified_at(before.key, before.mod_revision)], ops)
        except Conflict as conflict:
            raise Conflict(
                f"the record of run {after.id} of {after.job} was changed by somebody else"
            ) from conflict
        if after.outcome is not None:
            self._over = after.id
        return Stored(before.key, after, before.create_revision, revision)


def backoff_s(failures: int) -> float:
    """The pause before the next attempt: 1, 2, 4, … at most 60 s."""
    return min(_FIRST_BACKOFF_S * 2.0 ** (failures - 1), _LONGEST_BACKOFF_S)


def _make_empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _has_entries(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())
