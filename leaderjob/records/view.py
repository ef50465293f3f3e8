"""What is stored under a namespace, decoded: the state that every reader works on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from leaderjob.etcd import KeyValue
from leaderjob.model.artifact import Pointer, Staged, Version
from leaderjob.model.command import Command
from leaderjob.model.history import History
from leaderjob.model.job import JobSpec, Timetable
from leaderjob.model.member import Candidate, Member
from leaderjob.model.record import Record
from leaderjob.model.run import Progress, Run, State
from leaderjob.model.schema import Schema
from leaderjob.model.transfer import Transfer
from leaderjob.records.keys import Kind, Place
from leaderjob.records.stored import Stored

RecordT = TypeVar("RecordT", bound=Record)

_SEVERAL_OF_A_JOB = (Kind.RUN, Kind.PROGRESS, Kind.STAGED, Kind.VERSION)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A value that cannot be read, and why. :param newer: a newer release can read it."""

    kv: KeyValue
    place: Place
    reason: str
    newer: bool = False


@dataclass(slots=True)
class View:
    """Decoded records by kind and names, and what could not be decoded.

    ``candidates`` has every key of the election, foreign ones too; the lowest create revision leads.
    Call :meth:`set` to change ``records``: it keeps the indexes by job current. A question about one job
    costs no more when other jobs have many records.
    """

    revision: int = 0
    records: dict[Kind, dict[tuple[str, ...], Stored[Any]]] = field(
        default_factory=lambda: {kind: {} for kind in Kind}
    )
    candidates: dict[str, KeyValue] = field(default_factory=dict)
    quarantined: dict[str, Quarantined] = field(default_factory=dict)
    newer: dict[str, Quarantined] = field(default_factory=dict)
    """What only a newer release can read: left alone, and not acted on."""
    definitions_changed: int = 0
    """How often a definition was written or deleted: tells readers whether to look at all of them again."""
    _by_job: dict[Kind, dict[str, dict[tuple[str, ...], Stored[Any]]]] = field(
        default_factory=lambda: {kind: {} for kind in _SEVERAL_OF_A_JOB}, repr=False
    )
    _newer_by_job: dict[str, dict[str, Quarantined]] = field(default_factory=dict, repr=False)
    _unfinished: dict[str, dict[tuple[str, ...], Stored[Run]]] = field(default_factory=dict, repr=False)

    def get(self, kind: Kind, *names: str) -> Stored[Any] | None:
        return self.records[kind].get(names)

    def set(self, place: Place, stored: Stored[Any] | None) -> None:
        """Put a record there, or remove it (None)."""
        kind, names = place.kind, place.names
        if kind is Kind.SPEC:
            self.definitions_changed += 1
        _replace(self.records[kind], names, stored)
        if kind in self._by_job:
            _replace_by_job(self._by_job[kind], names, stored)
        if kind is Kind.RUN:
            over = stored is None or stored.record.state is State.DONE
            _replace_by_job(self._unfinished, names, None if over else stored)

    def set_unreadable(self, key: str, place: Place, found: Quarantined | None) -> None:
        """What stands there cannot be read, or can be, or is gone (None)."""
        job = place.job if place.kind is not Kind.PROGRESS else None
        self.quarantined.pop(key, None)
        if self.newer.pop(key, None) is not None and job is not None:
            of_job = self._newer_by_job[job]
            del of_job[key]
            if not of_job:
                del self._newer_by_job[job]
        if found is None:
            return
        (self.newer if found.newer else self.quarantined)[key] = found
        if found.newer and job is not None:
            self._newer_by_job.setdefault(job, {})[key] = found

    def newer_of(self, job: str) -> list[Quarantined]:
        """The records of a job that only a newer release can read, apart from progress, which nothing depends on."""
        return list(self._newer_by_job.get(job, {}).values())

    @property
    def newer_members(self) -> list[str]:
        """The keys of members that only a newer release can read: nobody here knows which jobs they have."""
        return sorted(key for key, found in self.newer.items() if found.place.kind is Kind.MEMBER)

    @property
    def leader_key(self) -> KeyValue | None:
        """The election key with the lowest create revision."""
        return min(self.candidates.values(), key=lambda kv: kv.create_revision, default=None)

    @property
    def leader(self) -> Stored[Candidate] | None:
        """The leader's candidate record, or None: nobody leads, or the leader is foreign."""
        kv = self.leader_key
        if kv is None:
            return None
        return next((found for found in self._all(Kind.CANDIDATE, Candidate) if found.key == kv.key), None)

    @property
    def queue(self) -> list[Stored[Candidate]]:
        """Our candidates in the order of their keys: who leads, who is next, and so on."""
        return sorted(self._all(Kind.CANDIDATE, Candidate), key=lambda found: found.create_revision)

    @property
    def members(self) -> dict[str, Stored[Member]]:
        return {found.record.replica: found for found in self._all(Kind.MEMBER, Member)}

    def who_cannot_reach(self, member: Member) -> list[str]:
        """The members that say that nobody answers at that one's liveness address."""
        address = member.addresses.get("liveness")
        records = [stored.record for stored in self.members.values()]
        return sorted(
            other.replica
            for other in records
            if address is not None and other.unreachable.get(member.replica) == address
        )

    @property
    def specs(self) -> dict[str, Stored[JobSpec]]:
        return {found.record.name: found for found in self._all(Kind.SPEC, JobSpec)}

    def is_in_force(self, job: str) -> bool:
        """Whether the job has a definition, and was not removed."""
        found = self.get(Kind.SPEC, job)
        return found is not None and found.record.removed is None

    @property
    def commands(self) -> list[Stored[Command]]:
        """In the order in which they were given."""
        return sorted(self._all(Kind.COMMAND, Command), key=lambda found: found.create_revision)

    def timetable(self, job: str) -> Stored[Timetable] | None:
        return self.get(Kind.TIMETABLE, job)

    def pointer(self, job: str) -> Stored[Pointer] | None:
        return self.get(Kind.POINTER, job)

    def pointers(self) -> dict[str, Stored[Pointer]]:
        return {names[0]: stored for names, stored in self.records[Kind.POINTER].items()}

    def staged(self, job: str | None = None) -> list[Stored[Staged]]:
        """What is staged of one job, or of all."""
        return self._all(Kind.STAGED, Staged) if job is None else self._of(Kind.STAGED, job)

    def schema(self) -> Stored[Schema] | None:
        return self.get(Kind.SCHEMA)

    def history(self) -> Stored[History] | None:
        return self.get(Kind.HISTORY)

    def transfer(self) -> Stored[Transfer] | None:
        return self.get(Kind.TRANSFER)

    def runs(self, job: str) -> list[Stored[Run]]:
        """Oldest first."""
        return _oldest_first(self._of(Kind.RUN, job))

    def unfinished_runs(self, job: str) -> list[Stored[Run]]:
        """Oldest first."""
        return _oldest_first(self._unfinished.get(job, {}).values())

    @property
    def run_names(self) -> frozenset[tuple[str, ...]]:
        """Job and id of every run."""
        return frozenset(self.records[Kind.RUN])

    @property
    def jobs_with_unfinished_runs(self) -> frozenset[str]:
        return frozenset(self._unfinished)

    def versions(self, job: str) -> list[Stored[Version]]:
        """Lowest number first."""
        return sorted(self._of(Kind.VERSION, job), key=lambda stored: stored.record.version)

    def progress(self, job: str, run: str) -> Progress | None:
        """That of the latest attempt which reported any."""
        reported = self._by_job[Kind.PROGRESS].get(job, {})
        attempts = {int(names[2]): stored for names, stored in reported.items() if names[1] == run}
        return attempts[max(attempts)].record if attempts else None

    def _of(self, kind: Kind, job: str) -> list[Stored[Any]]:
        return list(self._by_job[kind].get(job, {}).values())

    def _all(self, kind: Kind, record: type[RecordT]) -> list[Stored[RecordT]]:
        return cast(list[Stored[RecordT]], list(self.records[kind].values()))


def _replace(
    records: dict[tuple[str, ...], Stored[Any]], names: tuple[str, ...], stored: Stored[Any] | None
) -> None:
    if stored is None:
        records.pop(names, None)
    else:
        records[names] = stored


def _replace_by_job(
    by_job: dict[str, dict[tuple[str, ...], Stored[Any]]], names: tuple[str, ...], stored: Stored[Any] | None
) -> None:
    of_job = by_job.setdefault(names[0], {})
    _replace(of_job, names, stored)
    if not of_job:
        del by_job[names[0]]


def _oldest_first(runs: Iterable[Stored[Run]]) -> list[Stored[Run]]:
    return sorted(runs, key=lambda stored: (stored.record.created, stored.create_revision))
