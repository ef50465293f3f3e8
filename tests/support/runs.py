"""Runs of the job ``j`` as they stand in the ledger, and what became of their attempts."""

from dataclasses import replace
from typing import Any

from leaderjob.clock import utcnow
from leaderjob.engine.definition import Assignment
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.records.stored import Stored
from tests.support.office import Seat, assigned


def admitted(run: str = "r") -> Run:
    return Run(
        id=run, job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow(), params={"value": 1}
    )


def begun(run: Run, token: int) -> Run:
    return run.begin(token=token, replica="r1", ttl_s=10.0, now=utcnow())


async def stored(seat: Seat, run: Run) -> Stored[Run]:
    key = seat.keys.run(run.job, run.id)
    revision = await seat.outside.put(key, run.to_bytes())
    return Stored(key, run, revision, revision)


async def read(seat: Seat, run: str) -> Stored[Run]:
    found = await seat.outside.get(seat.keys.run("j", run))
    assert found is not None
    record = Run.from_bytes(found.value)
    assert isinstance(record, Run)
    return Stored(found.key, record, found.create_revision, found.mod_revision)


def with_policy(**changes: Any) -> Assignment:
    assignment = assigned("j")
    policy = assignment.spec.policy.model_copy(update=changes)
    return replace(assignment, spec=assignment.spec.model_copy(update={"policy": policy}))


def outcomes(run: Run) -> list[Outcome | None]:
    return [attempt.outcome for attempt in run.attempts]
