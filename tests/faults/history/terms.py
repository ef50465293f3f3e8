"""Terms and offices, put together from what etcd committed and what replicas told."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from leaderjob.model.history import History as StoreHistory
from leaderjob.model.member import Candidate
from leaderjob.records.keys import Kind
from tests.faults.history.past import Change, History, decoded
from tests.faults.history.told import Told


@dataclass(frozen=True, slots=True)
class Standing:
    """One key of the election, from its creation to its deletion.

    :param deleted: when it went; None: it is still there.
    :param values: what was written under it: the candidate as it stood, and as it led.
    """

    key: str
    created: Change
    deleted: Change | None
    values: tuple[Change, ...]

    @property
    def create_revision(self) -> int:
        return self.created.revision

    @property
    def lease(self) -> int:
        return self.created.now.lease if self.created.now else 0

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        found = (decoded(change.place, change.now) for change in self.values)
        return tuple(record for record in found if isinstance(record, Candidate))

    @property
    def replica(self) -> str | None:
        return self.candidates[0].replica if self.candidates else None

    @property
    def proclaimed(self) -> Change | None:
        """When it said that it leads."""
        for change in self.values:
            record = decoded(change.place, change.now)
            if isinstance(record, Candidate) and record.leading_since is not None:
                return change
        return None

    def stands_before(self, revision: int) -> bool:
        """Whether the key was there when the transaction of that revision was done."""
        gone = self.deleted is not None and self.deleted.revision < revision
        return self.create_revision < revision and not gone


class Election:
    """Who stood when."""

    def __init__(self, history: History) -> None:
        self.standings = _standings(history)
        self._floors = [
            (change.revision, record.token_floor)
            for change in history.of(Kind.HISTORY)
            if isinstance(record := change.record, StoreHistory)
        ]

    def floor(self, revision: int) -> int:
        """What was added to create revisions then, to make fencing tokens."""
        index = bisect.bisect_left(self._floors, (revision, -1))
        return self._floors[index - 1][1] if index else 0

    def in_office(self, revision: int) -> Standing | None:
        """Who was first in line when the transaction of that revision was done."""
        standing = [each for each in self.standings if each.stands_before(revision)]
        return min(standing, key=lambda each: each.create_revision, default=None)

    def of_token(self, token: int, revision: int | None = None) -> Standing | None:
        """Whose key a token comes from, as tokens were counted at that revision (None: at any)."""
        floors = {floor for _, floor in self._floors} | {0} if revision is None else {self.floor(revision)}
        for each in reversed(self.standings):
            if token - each.create_revision in floors:
                return each
        return None

    def token(self, standing: Standing) -> int:
        """The fencing token that it has, or would have, when it leads."""
        at = standing.proclaimed or standing.created
        return standing.create_revision + self.floor(at.revision)


def _standings(history: History) -> list[Standing]:
    ended: list[Standing] = []
    open_: dict[str, list[Change]] = {}
    for change in history.of(Kind.CANDIDATE):
        if change.now is None:
            written = open_.pop(change.key, None)
            if written:
                ended.append(Standing(change.key, written[0], change, tuple(written)))
        else:
            open_.setdefault(change.key, []).append(change)
    ended += [Standing(key, written[0], None, tuple(written)) for key, written in open_.items()]
    return sorted(ended, key=lambda each: each.create_revision)


@dataclass(frozen=True, slots=True)
class Trust:
    """How long a replica trusted its term, by its own word.

    :param until: the latest boot time in seconds at which its workers have to be dead.
    :param ended_at: when it told that the term is over; None: it told nothing.
    """

    token: int
    won: Told
    until: float
    ended_at: float | None

    @property
    def over_at(self) -> float:
        return self.until if self.ended_at is None else min(self.until, self.ended_at)


def trusts(told: Sequence[Told]) -> dict[int, list[Trust]]:
    """By token; each has one entry where all is well."""
    found: dict[int, list[Trust]] = {}
    for won in told:
        if won.event != "term_won":
            continue
        token = won.fields["term"]
        same = [each for each in told if each.has(term=token) and _is_of_one_process(each, won)]
        extended = [each.fields["trusted_until"] for each in same if each.event == "trust_extended"]
        ended = [each.at for each in same if each.event == "term_ended"]
        until = max([won.fields["trusted_until"], *extended])
        found.setdefault(token, []).append(Trust(token, won, until, min(ended, default=None)))
    return found


def _is_of_one_process(one: Told, other: Told) -> bool:
    return (one.replica, one.process) == (other.replica, other.process)
