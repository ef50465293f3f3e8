"""What is stored under a namespace, decoded: the state that every reader works on."""

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
from leaderjob.model.transfer import Transfer
from leaderjob.records.keys import Kind, Place
from leaderjob.records.stored import Stored

RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A value that cannot be read, and why."""

    kv: KeyValue
    place: Place
    reason: str


@dataclass(slots=True)
class View:
    """Decoded records by kind and names, and what could not be decoded.

    ``candidates`` has every key of the election, foreign ones too; the lowest create revision leads.
    """

    revision: int = 0
    records: dict[Kind, dict[tuple[str, ...], Stored[Any]]] = field(
        default_factory=lambda: {kind: {} for kind in Kind}
    )
    candidates: dict[str, KeyValue] = field(default_factory=dict)
    quarantined: dict[str, Quarantined] = field(default_factory=dict)
    definitions_changed: int = 0
    """How often a definition was written or deleted: tells readers whether to look at all of them again."""

    def get(self, kind: Kind, *names: str) -> Stored[Any] | None:
        return self.records[kind].get(names)

    def set(self, place: Place, stored: Stored[Any] | None) -> None:
        if place.kind is Kind.SPEC:
            self.definitions_changed += 1
        if stored is None:
            self.records[place.kind].pop(place.names, None)
        else:
            self.records[place.kind][place.names] = stored

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

    def staged(self) -> list[Stored[Staged]]:
        return self._all(Kind.STAGED, Staged)

    def history(self) -> Stored[History] | None:
        return self.get(Kind.HISTORY)

    def transfer(self) -> Stored[Transfer] | None:
        return self.get(Kind.TRANSFER)

    def runs(self, job: str) -> list[Stored[Run]]:
        """Oldest first."""
        found = [stored for names, stored in self.records[Kind.RUN].items() if names[0] == job]
        return sorted(found, key=lambda stored: (stored.record.created, stored.create_revision))

    def unfinished_runs(self, job: str) -> list[Stored[Run]]:
        return [stored for stored in self.runs(job) if stored.record.state is not State.DONE]

    def versions(self, job: str) -> list[Stored[Version]]:
        """Lowest number first."""
        found = [stored for names, stored in self.records[Kind.VERSION].items() if names[0] == job]
        return sorted(found, key=lambda stored: stored.record.version)

    def progress(self, job: str, run: str) -> Progress | None:
        """That of the latest attempt which reported any."""
        attempts = {
            int(names[2]): stored
            for names, stored in self.records[Kind.PROGRESS].items()
            if names[:2] == (job, run)
        }
        return attempts[max(attempts)].record if attempts else None

    def _all(self, kind: Kind, record: type[RecordT]) -> list[Stored[RecordT]]:
        return cast(list[Stored[RecordT]], list(self.records[kind].values()))
