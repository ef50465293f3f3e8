"""A run and its attempts: the states, and the only transitions there are.

::

    admitted ─► running ─► succeeded | failed | timed_out | cancelled | abandoned | superseded
        │          │ ▲
        │          └─┘ another attempt (a retry, or a restart after the leader was lost)
        └─► cancelled | abandoned
    skipped, missed: final from the start; a `missed` record may stand for a range of fires
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from leaderjob.errors import LeaderjobError
from leaderjob.model.record import Record
from leaderjob.names import Name


class State(StrEnum):
    ADMITTED = "admitted"
    RUNNING = "running"
    DONE = "done"


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    SUPERSEDED = "superseded"
    SKIPPED = "skipped"
    MISSED = "missed"


class Cause(StrEnum):
    """What made a run due."""

    SCHEDULE = "schedule"
    TRIGGER = "trigger"


class IllegalTransition(LeaderjobError):
    """A run cannot go from its state to the one asked for; this is a defect of leaderjob."""


class Attempt(Record):
    """One worker process of a run.

    ``ttl_s`` is that of the term: how long a successor has to wait before the worker is surely dead,
    unless ``workers_gone`` says so, or the guard does: it listens at ``guard`` (``HOST:PORT``), and knows ``nonce``.
    """

    number: int
    token: int
    replica: str
    ttl_s: float
    started: datetime
    ended: datetime | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    workers_gone: bool = False
    guard: str | None = None
    nonce: str | None = None


class FireRange(Record):
    """Several fires of a schedule in one record: both ends included.

    ``exact`` is false where the gap was so long that counting stopped; ``count`` is then a lower bound.
    """

    first: datetime
    last: datetime
    count: int
    exact: bool = True


class Run(Record):
    """``runs/<job>/<id>``: one accepted fire, or the reason why it was not accepted."""

    id: Name
    job: Name
    cause: Cause
    state: State
    created: datetime
    fire_time: datetime | None = None
    fires: FireRange | None = None
    params: dict[str, Any] = {}
    attempts: tuple[Attempt, ...] = ()
    outcome: Outcome | None = None
    reason: str | None = None
    ended: datetime | None = None
    version: int | None = None

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def abandoned_attempts(self) -> tuple[Attempt, ...]:
        """Those whose leader was lost, could not be trusted any more, or could not go on with them."""
        return tuple(attempt for attempt in self.attempts if attempt.outcome is Outcome.ABANDONED)

    def begin(
        self,
        *,
        token: int,
        replica: str,
        ttl_s: float,
        now: datetime,
        guard: str | None = None,
        nonce: str | None = None,
    ) -> "Run":
        """A new attempt starts."""
        if self.state is State.DONE or (self.attempt and self.attempt.ended is None):
            raise IllegalTransition(f"run {self.id} of {self.job} is {self.state}: no new attempt can begin")
        new = Attempt(
            number=len(self.attempts) + 1,
            token=token,
            replica=replica,
            ttl_s=ttl_s,
            started=now,
            guard=guard,
            nonce=nonce,
        )
        return self.model_copy(update={"state": State.RUNNING, "attempts": (*self.attempts, new)})

    def end_attempt(
        self, outcome: Outcome, *, now: datetime, reason: str | None = None, workers_gone: bool = True
    ) -> "Run":
        """The latest attempt is over; the run is not: another attempt may follow."""
        last = self.attempt
        if self.state is not State.RUNNING or last is None or last.ended is not None:
            raise IllegalTransition(f"run {self.id} of {self.job} has no attempt under way that could end")
        ended = last.model_copy(
            update={"ended": now, "outcome": outcome, "reason": reason, "workers_gone": workers_gone}
        )
        return self.model_copy(update={"attempts": (*self.attempts[:-1], ended)})

    def finish(
        self,
        outcome: Outcome,
        *,
        now: datetime,
        reason: str | None = None,
        version: int | None = None,
        workers_gone: bool = True,
    ) -> "Run":
        """The run is over, with its latest attempt if that is still open."""
        if self.state is State.DONE:
            raise IllegalTransition(f"run {self.id} of {self.job} is over already: {self.outcome}")
        run = self
        if self.attempt and self.attempt.ended is None:
            run = self.end_attempt(outcome, now=now, reason=reason, workers_gone=workers_gone)
        return run.model_copy(
            update={
                "state": State.DONE,
                "outcome": outcome,
                "reason": reason,
                "ended": now,
                "version": version,
            }
        )


class Progress(Record):
    """``progress/<job>/<run>/<attempt>``: how far the attempt is, as the job tells it."""

    done: float
    total: float
    message: str = ""
