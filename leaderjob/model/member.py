"""Replicas as others see them: the heartbeat record and the candidate's record."""

from datetime import datetime
from enum import StrEnum

from leaderjob.model.record import Record
from leaderjob.names import Name


class Role(StrEnum):
    LEADER = "leader"
    FOLLOWER = "follower"


class Priority(StrEnum):
    """How much a replica is meant to lead."""

    PREFERRED = "preferred"
    ORDINARY = "ordinary"
    OBSERVER = "observer"


class Holding(Record):
    """What a replica holds of one job: the version it serves, and every manifest it could serve."""

    active: int | None = None
    digest: str | None = None
    manifests: tuple[str, ...] = ()


class Lacks(Record):
    """What a replica lacks of the jobs that are in force, by their definitions in etcd.

    ``jobs`` has at most the first 1,000 of their names, ``count`` is how many there are. ``returned`` names jobs that
    this replica has and that are not in force: they were removed, or have no definition. ``revision`` is the create revision of the newest definition that was counted.
    """

    jobs: tuple[Name, ...] = ()
    count: int = 0
    returned: tuple[Name, ...] = ()
    revision: int = 0


class Member(Record):
    """``members/<replica id>``: written on change only; the lease under it is the heartbeat.

    An observer never stands for election; who is not preferred hands office over to one who is.
    ``addresses`` maps a protocol (``grpc``, ``http``, ``liveness``) to ``HOST:PORT``. ``unreachable`` has the members
    that this one cannot reach at their liveness addresses, and these. ``lacks`` is None until the jobs have been counted,
    and for a release that does not count them. ``reads_schema`` is the newest layout of keys that its release reads.
    ``draining``: it leads, is to give up office, and lets what is under way end.
    """

    replica: Name
    incarnation: str
    role: Role
    release: str
    host: str
    pid: int
    started: datetime
    addresses: dict[str, str]
    priority: Priority = Priority.ORDINARY
    holds: dict[str, Holding] = {}
    unreachable: dict[str, str] = {}
    lacks: Lacks | None = None
    reads_schema: int = 1
    draining: bool = False


class Candidate(Record):
    """``election/<lease hex>``: who stands for election; the lowest create revision leads.

    ``leading_since`` is proclaimed by the winner: from then on it acts as the leader. ``margin_s`` is how much
    earlier than its lease its trust in itself ends. ``reads_schema`` is that of :class:`Member`.
    """

    replica: Name
    incarnation: str
    addresses: dict[str, str]
    since: datetime
    leading_since: datetime | None = None
    margin_s: float | None = None
    reads_schema: int = 1
