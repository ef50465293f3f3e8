"""The key schema: EVERY key of leaderjob is made and recognised here."""

import re
from dataclasses import dataclass
from enum import Enum

from leaderjob.model.artifact import Forgotten, Numbers, Pointer, Staged, Version
from leaderjob.model.command import Command
from leaderjob.model.history import History
from leaderjob.model.ids import check_name
from leaderjob.model.job import JobSpec, Timetable
from leaderjob.model.lacking import Lacking
from leaderjob.model.member import Candidate, Member
from leaderjob.model.record import Record
from leaderjob.model.run import Progress, Run
from leaderjob.model.schema import Schema
from leaderjob.model.transfer import Transfer

_NAME = r"[a-z0-9][a-z0-9._-]*"


class Kind(Enum):
    """Each kind of key below the namespace: its pattern, and the record under it.

    The groups of a pattern are the names in a key: job, then run, attempt or version. A group that is
    called as a field of the record says what that field has to say, too.
    """

    CANDIDATE = (r"election/([0-9a-f]+)", Candidate)
    MEMBER = (rf"members/(?P<replica>{_NAME})", Member)
    SPEC = (rf"jobs/(?P<name>{_NAME})/spec", JobSpec)
    TIMETABLE = (rf"jobs/({_NAME})/schedule", Timetable)
    FORGOTTEN = (rf"jobs/({_NAME})/forgotten", Forgotten)
    RUN = (rf"runs/(?P<job>{_NAME})/(?P<id>{_NAME})", Run)
    PROGRESS = (rf"progress/({_NAME})/({_NAME})/([0-9]+)", Progress)
    STAGED = (rf"results/(?P<job>{_NAME})/staged/(?P<run>{_NAME})", Staged)
    POINTER = (rf"results/({_NAME})/current", Pointer)
    VERSION = (rf"results/({_NAME})/versions/(?P<version>[0-9]+)", Version)
    NUMBERS = (rf"results/({_NAME})/numbers", Numbers)
    COMMAND = (rf"commands/(?P<id>{_NAME})", Command)
    LACKING = (r"lacking/(?P<token>[0-9]+)", Lacking)
    HISTORY = (r"meta/history", History)
    SCHEMA = (r"meta/schema", Schema)
    TRANSFER = (r"meta/transfer", Transfer)

    def __init__(self, pattern: str, record: type[Record]) -> None:
        # Looked up for each of perhaps a hundred thousand records: an Enum's own ``value`` is slow.
        self.pattern = re.compile(pattern)
        self.record = record
        self._in_key = re.compile(f".*/{pattern}", re.DOTALL)

    @property
    def is_of_a_job(self) -> bool:
        """Whether the first name in such a key is that of a job."""
        return self in _OF_A_JOB

    def fields_in(self, key: str) -> dict[str, str]:
        """What a key of this kind says of the record under it, by the record's fields."""
        match = self._in_key.fullmatch(key)
        return match.groupdict() if match else {}


_OF_A_JOB = frozenset(
    {
        Kind.SPEC,
        Kind.TIMETABLE,
        Kind.FORGOTTEN,
        Kind.RUN,
        Kind.PROGRESS,
        Kind.STAGED,
        Kind.POINTER,
        Kind.VERSION,
        Kind.NUMBERS,
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key is in the schema: its kind, and the names in it."""

    kind: Kind
    names: tuple[str, ...]

    @property
    def job(self) -> str | None:
        """The job that the record belongs to; None for a record of another kind."""
        return self.names[0] if self.kind.is_of_a_job else None


_KINDS = tuple(Kind)


class Keys:
    """The keys of one namespace. :raises InvalidName: the namespace is none."""

    def __init__(self, namespace: str) -> None:
        self.namespace = check_name("namespace", namespace)
        self.root = f"/leaderjob/{namespace}/"

    def locate(self, key: str) -> Place | None:
        """The place of a key, or None if it is none of ours."""
        if not key.startswith(self.root):
            return None
        rest = key[len(self.root) :]
        for kind in _KINDS:
            if match := kind.pattern.fullmatch(rest):
                return Place(kind, match.groups())
        return None

    @property
    def election(self) -> str:
        """The prefix of the election, with its trailing slash."""
        return f"{self.root}election/"

    @property
    def history(self) -> str:
        return f"{self.root}meta/history"

    @property
    def schema(self) -> str:
        return f"{self.root}meta/schema"

    @property
    def transfer(self) -> str:
        return f"{self.root}meta/transfer"

    def member(self, replica: str) -> str:
        return f"{self.root}members/{replica}"

    @property
    def jobs(self) -> str:
        """The prefix of definitions and timetables."""
        return f"{self.root}jobs/"

    def spec(self, job: str) -> str:
        return f"{self.root}jobs/{job}/spec"

    def timetable(self, job: str) -> str:
        return f"{self.root}jobs/{job}/schedule"

    def forgotten(self, job: str) -> str:
        return f"{self.root}jobs/{job}/forgotten"

    def run(self, job: str, run: str) -> str:
        return f"{self.root}runs/{job}/{run}"

    def runs(self, job: str) -> str:
        return f"{self.root}runs/{job}/"

    def progress(self, job: str, run: str, attempt: int) -> str:
        return f"{self.root}progress/{job}/{run}/{attempt}"

    def staged(self, job: str, run: str) -> str:
        return f"{self.root}results/{job}/staged/{run}"

    def results(self, job: str) -> str:
        """The prefix of all that is published of a job, with its trailing slash."""
        return f"{self.root}results/{job}/"

    def numbers(self, job: str) -> str:
        return f"{self.root}results/{job}/numbers"

    def pointer(self, job: str) -> str:
        return f"{self.root}results/{job}/current"

    def version(self, job: str, version: int) -> str:
        return f"{self.root}results/{job}/versions/{version}"

    def command(self, command: str) -> str:
        return f"{self.root}commands/{command}"

    def lacking(self, token: int) -> str:
        return f"{self.root}lacking/{token}"

    def quarantine(self, key: str) -> str:
        """Where the leader puts a value that cannot be read, found under ``key``."""
        return f"{self.root}quarantine/{key[len(self.root) :]}"
