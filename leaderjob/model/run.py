"""A run and its attempts: the states, and the only transitions there are.

::

    admitted ─► running ─► succeeded | failed | timed_out | cancelled | abandoned | superseded
        │          │ ▲
        │          └─┘ another attempt (a retry, or a restart after the leader was lost)
        └─► cancelled | abandoned
    skipped, missed: final from the start; a `missed` record may stand for a range of fires
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import FiniteFloat

from leaderjob.errors import LeaderjobError
from leaderjob.model.record import Record
from leaderjob.model.text import BRIEF_CHARS, printable
from leaderjob.names import Name

LATEST_ATTEMPTS = 10
"""How many attempts a record has at most, besides the first one."""


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
    ``handed_over`` says that its leader stopped it to give up office in order.
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
    handed_over: bool = False
    guard: str | None = None
    nonce: str | None = None


class OmittedAttempts(Record):
    """The attempts that a record no longer has, between the first one and the latest ones.

    ``failed`` and ``lost`` count those that used up a retry, and those that lost their leader.
    """

    count: int = 0
    failed: int = 0
    lost: int = 0


class FireRange(Record):
    """Several fires of a schedule in one record: both ends included.

    ``exact`` is false where the gap was so long that counting stopped; ``count`` is then a lower bound.
    """

    first: datetime
    last: datetime
    count: int
    exact: bool = True


class Run(Record):
    """``runs/<job>/<id>``: one accepted fire, or the reason why it was not accepted.

    ``retry_at`` is the instant before which no other attempt begins, while the run waits for one.
    """

    id: Name
    job: Name
    cause: Cause
    state: State
    created: datetime
    fire_time: datetime | None = None
    fires: FireRange | None = None
    params: dict[str, Any] = {}
    attempts: tuple[Attempt, ...] = ()
    omitted: OmittedAttempts | None = None
    retry_at: datetime | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    ended: datetime | None = None
    version: int | None = None

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def attempt_count(self) -> int:
        """How many attempts there were, those that the record no longer has included."""
        return self.attempts[-1].number if self.attempts else 0

    def retry_pause_s(self, now: datetime) -> float:
        """How long it waits yet for its next attempt; a clock that is wrong makes that no longer than it was meant."""
        last = self.attempt
        if self.retry_at is None or last is None or last.ended is None:
            return 0.0
        return max(0.0, min(self.retry_at - now, self.retry_at - last.ended).total_seconds())

    @property
    def failed_attempts(self) -> int:
        """How many attempts used up a retry."""
        return (self.omitted.failed if self.omitted else 0) + sum(map(_is_failed, self.attempts))

    @property
    def leader_losses(self) -> int:
        """How many attempts were abandoned because the leader was lost, could not be trusted any more, or could not go
        on. One that a leader handed over in order is no loss."""
        return (self.omitted.lost if self.omitted else 0) + sum(map(_is_lost, self.attempts))

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
            number=self.attempt_count + 1,
            token=token,
            replica=replica,
            ttl_s=ttl_s,
            started=now,
            guard=guard,
            nonce=nonce,
        )
        return self._with_attempts((*self.attempts, new), state=State.RUNNING, retry_at=None)

    def retry_after(self, pause_s: float) -> "Run":
        """The latest attempt has ended, and another one follows after this pause."""
        last = self.attempt
        if last is None or last.ended is None:
            raise IllegalTransition(
                f"run {self.id} of {self.job} has no attempt that another one could follow"
            )
        return self.model_copy(update={"retry_at": last.ended + timedelta(seconds=pause_s)})

    def end_attempt(
        self,
        outcome: Outcome,
        *,
        now: datetime,
        reason: str | None = None,
        workers_gone: bool = True,
        handed_over: bool = False,
    ) -> "Run":
        """The latest attempt is over; the run is not: another attempt may follow."""
        last = self.attempt
        if self.state is not State.RUNNING or last is None or last.ended is not None:
            raise IllegalTransition(f"run {self.id} of {self.job} has no attempt under way that could end")
        ended = last.model_copy(
            update={
                "ended": now,
                "outcome": outcome,
                "reason": None if reason is None else printable(reason),
                "workers_gone": workers_gone,
                "handed_over": handed_over,
            }
        )
        return self._with_attempts((*self.attempts[:-1], ended))

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
                "retry_at": None,
                "outcome": outcome,
                "reason": None if reason is None else printable(reason),
                "ended": now,
                "version": version,
            }
        )

    def _with_attempts(self, attempts: tuple[Attempt, ...], **changes: Any) -> "Run":
        """Keeps the record small however often the run is tried: the first attempt, the latest ones, and a count."""
        former = tuple(map(_brief, attempts[:-1]))
        surplus = former[1 : max(1, len(attempts) - LATEST_ATTEMPTS)]
        kept = (*former[:1], *former[1 + len(surplus) :], attempts[-1])
        if surplus:
            before = self.omitted or OmittedAttempts()
            changes["omitted"] = before.model_copy(
                update={
                    "count": before.count + len(surplus),
                    "failed": before.failed + sum(map(_is_failed, surplus)),
                    "lost": before.lost + sum(map(_is_lost, surplus)),
                }
            )
        return self.model_copy(update={**changes, "attempts": kept})


def _is_failed(attempt: Attempt) -> bool:
    return attempt.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)


def _is_lost(attempt: Attempt) -> bool:
    return attempt.outcome is Outcome.ABANDONED and not attempt.handed_over


def _brief(attempt: Attempt) -> Attempt:
    if attempt.reason is None or len(attempt.reason) <= BRIEF_CHARS:
        return attempt
    return attempt.model_copy(update={"reason": printable(attempt.reason, BRIEF_CHARS)})


class Progress(Record):
    """``progress/<job>/<run>/<attempt>``: how far the attempt is, as the job tells it."""

    done: FiniteFloat
    total: FiniteFloat
    message: str = ""
