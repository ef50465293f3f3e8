"""The hold rule, a part of I5: nothing begins beside what a former term may have left."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from leaderjob.model.run import Attempt, Outcome, Run
from leaderjob.records.keys import Kind
from tests.faults.history.past import Change, History
from tests.faults.history.terms import Election, Trust
from tests.faults.history.violation import Bounds, Violation

_CLOCK_RATE_SLACK = 1.01


@dataclass
class HoldRule:
    """Looks at each write by which a term says that the worker of another one is gone, or begins one of its own."""

    history: History
    bounds: Bounds
    election: Election
    by_token: Mapping[int, list[Trust]]
    _known: dict[tuple[str, str, int], Attempt] = field(default_factory=dict)

    def broken(self) -> Iterator[Violation]:
        for change in self.history.of(Kind.RUN):
            now = change.record
            if not isinstance(now, Run) or change.listed:
                continue
            for attempt in now.attempts:
                yield from self._of_attempt(change, now, attempt)
            for attempt in now.attempts:
                self._known[now.job, now.id, attempt.number] = attempt

    def _of_attempt(self, change: Change, run: Run, attempt: Attempt) -> Iterator[Violation]:
        before = self._known.get((run.job, run.id, attempt.number))
        if before is None and attempt.ended is None:
            known = [(name, other) for (job, name, _), other in self._known.items() if job == run.job]
            # Whoever began an attempt in a newer term had to wait for those of the older ones.
            newest = max((other.token for _, other in known), default=0)
            for other_run, other in known:
                if other.token == newest != attempt.token and not _gone(other):
                    yield from self._unless_held(change, other_run, other, attempt.token)
        elif before is not None and not _gone(before) and _gone(attempt) and _is_lost(attempt):
            office = self.election.in_office(change.revision)
            writer = self.election.token(office) if office is not None else 0
            if writer != attempt.token:
                yield from self._unless_held(change, run.id, attempt, writer)

    def _unless_held(self, change: Change, run: str, former: Attempt, token: int) -> Iterator[Violation]:
        """Term ``token`` goes on at ``change``, as if the worker of ``former`` were gone: does it know that?"""
        for trust in self.by_token.get(token, ()):
            free_at = trust.won.at + former.ttl_s * _CLOCK_RATE_SLACK
            if change.at >= free_at - self.bounds.lateness_s or self._attested(change, run, former, trust):
                continue
            yield Violation(
                "I5",
                f"term {token} went on with {change.names[0]} while a worker of term {former.token} could still be alive",
                {"revision": change.revision, "at": round(change.at, 3), "free_at": round(free_at, 3)},
            )

    def _attested(self, change: Change, run: str, former: Attempt, trust: Trust) -> bool:
        return any(
            told.event == "workers_gone"
            and told.replica == trust.won.replica
            and told.has(job=change.names[0], run=run, former_term=former.token)
            and told.at <= change.at + self.bounds.lateness_s
            for told in self.history.told
        )


def _is_lost(attempt: Attempt) -> bool:
    """Whether another term may have recorded its end: every other outcome is told by its own."""
    return attempt.outcome is Outcome.ABANDONED


def _gone(attempt: Attempt) -> bool:
    return attempt.ended is not None and attempt.workers_gone
