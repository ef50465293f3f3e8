"""I1 to I4: what is accepted, and in whose name."""

from collections.abc import Iterator
from dataclasses import dataclass

from leaderjob.model.artifact import Pointer, Staged, Version
from leaderjob.model.job import JobSpec
from leaderjob.model.run import Attempt, Outcome, Run
from leaderjob.records.keys import Kind
from tests.faults.history.past import Change, History
from tests.faults.history.terms import Election, trusts
from tests.faults.history.violation import Bounds, Violation


@dataclass(frozen=True, slots=True)
class Accepted:
    """A write that says in which term it was made."""

    change: Change
    token: int

    @property
    def what(self) -> str:
        return self.change.key.rpartition("/leaderjob/")[2]


def accepted(history: History) -> Iterator[Accepted]:
    """Every write with a token of its own, in the order of revisions; one for each token of a transaction.

    What was found in a listing after a gap is left out: nobody knows when it was written.
    """
    last = (0, 0)
    for change in history.changes:
        token = None if change.listed else _token(change)
        if token is not None and last != (change.revision, token):
            last = change.revision, token
            yield Accepted(change, token)


def _token(change: Change) -> int | None:
    """The token of whoever wrote this, as far as the value itself tells."""
    now = change.record
    if isinstance(now, Pointer | Version | Staged | JobSpec):
        return now.token
    if isinstance(now, Run):
        return _token_of_run(change.record_before, now)
    return None


def _token_of_run(before: object, now: Run) -> int | None:
    """An attempt is begun, and its success recorded, by its own term; its loss is by another one as a rule."""
    attempts: tuple[Attempt, ...] = before.attempts if isinstance(before, Run) else ()
    if now.attempt_count > (attempts[-1].number if attempts else 0):
        return now.attempts[-1].token
    last = now.attempt
    if last is not None and last.outcome is Outcome.SUCCEEDED and attempts and attempts[-1].ended is None:
        return last.token
    return None


def one_publication_for_a_fire(history: History, bounds: Bounds) -> list[Violation]:
    """I1: at most one accepted publication per (job, fire time), and per run where there is no fire time."""
    first: dict[tuple[str, str], Change] = {}
    found = []
    for change in history.of(Kind.VERSION):
        record = change.record
        if change.listed or change.before is not None or not isinstance(record, Version):
            continue
        job = change.names[0]
        fire = record.fire_time.isoformat() if record.fire_time else f"run {record.run}"
        if (earlier := first.setdefault((job, fire), change)) is not change:
            sentence = f"{job} was published twice for {fire}"
            found.append(
                Violation("I1", sentence, {"first_at": earlier.revision, "second_at": change.revision})
            )
    return found


def tokens_in_office(history: History, bounds: Bounds) -> list[Violation]:
    """I2: accepted tokens never decrease, and each is that of whoever was first in line at that revision."""
    election = Election(history)
    found, highest = [], 0
    for each in accepted(history):
        revision = each.change.revision
        evidence = {"revision": revision, "token": each.token}
        if each.token < highest:
            sentence = f"{each.what} was written by an older term than the last write"
            found.append(Violation("I2", sentence, {**evidence, "before": highest}))
        highest = max(highest, each.token)
        own, first = election.of_token(each.token, revision), election.in_office(revision)
        if own is None:
            found.append(Violation("I2", f"{each.what} bears a token that no candidate ever had", evidence))
        elif first is not own and own.stands_before(revision) and first is not None:
            sentence = (
                f"{each.what} was written by {own.replica}, while {first.replica} was before it in line"
            )
            found.append(Violation("I2", sentence, {**evidence, "first_in_line": first.create_revision}))
    return found


def nothing_after_the_term(history: History, bounds: Bounds) -> list[Violation]:
    """I3: nothing is accepted after its token's key was deleted."""
    election = Election(history)
    found = []
    for each in accepted(history):
        own = election.of_token(each.token, each.change.revision)
        if own is None or own.deleted is None or own.deleted.revision >= each.change.revision:
            continue
        evidence = {
            "revision": each.change.revision,
            "token": each.token,
            "key_deleted_at": own.deleted.revision,
        }
        found.append(Violation("I3", f"{each.what} was written after the term of {own.replica}", evidence))
    return found


def one_process_for_a_token(history: History, bounds: Bounds) -> list[Violation]:
    """I4: one token belongs to one process incarnation."""
    election = Election(history)
    found = []
    for standing in election.standings:
        incarnations = {candidate.incarnation for candidate in standing.candidates}
        if len(incarnations) > 1:
            evidence = {"token": election.token(standing), "incarnations": sorted(incarnations)}
            found.append(Violation("I4", "one key of the election was used by several processes", evidence))
    for token, won in trusts(history.told).items():
        winners = sorted({f"{each.won.replica} (process {each.won.process})" for each in won})
        if len(winners) > 1:
            sentence = f"term {token} was won by {' and '.join(winners)}"
            found.append(Violation("I4", sentence, {"token": token}))
    owners: dict[int, str] = {}
    for each in accepted(history):
        record = each.change.record
        if isinstance(record, Run) and record.attempt is not None:
            replica = record.attempt.replica
            if (owner := owners.setdefault(each.token, replica)) != replica:
                sentence = f"attempts of term {each.token} were begun by {owner} and by {replica}"
                found.append(
                    Violation("I4", sentence, {"token": each.token, "revision": each.change.revision})
                )
    return found
