"""The past as a value: what etcd committed, what jobs did, what replicas told, and what was done to them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from leaderjob.etcd import KeyValue
from leaderjob.model.record import Record
from leaderjob.records.keys import Keys, Kind, Place
from leaderjob.records.stored import CorruptRecord, decode
from tests.faults.history.effects import Effect
from tests.faults.history.told import Told


class Intervention(StrEnum):
    """What a test did that excuses what would be a violation otherwise; ``about`` says to whom."""

    OUTAGE = "outage"
    """No quorum, or no healthy replica: nobody can lead (I11)."""
    REJECTION = "rejection"
    """The network rejects between replicas: a verdict may be wrong (I13), and is harmless."""
    REVOCATION = "revocation"
    """An operator revoked the lease ``about`` (in hex): it did not run out (I5)."""
    FAULT = "fault"
    """Something was struck, or has yet to recover from that: what is due may have to wait (I10)."""
    BAD_DISK = "bad disk"
    """The replica ``about`` cannot write: it may give up office (I13)."""
    CLOCK_SET = "clock set"
    """The wall clock of the replica ``about`` was set: what it does by that clock may be late (I10)."""
    HELD_UP = "held up"
    """The replica ``about`` was stopped, or its event loop was: it may give up office when that adds up (I13)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An intervention, from one boot time in seconds to another; ``until`` is None where it never ended."""

    kind: Intervention
    since: float
    until: float | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Revisions that nobody told the recorder of: both ends included."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """One key was written (``now``) or deleted (``now`` is None) at ``revision``.

    :param at: boot time in seconds at which the recorder heard of it.
    :param place: where the key is in the schema, or None: it is none of leaderjob's.
    :param listed: from a listing after a gap: there may have been others between ``before`` and this one.
    """

    revision: int
    at: float
    key: str
    now: KeyValue | None
    before: KeyValue | None
    place: Place | None = None
    listed: bool = False

    @property
    def kind(self) -> Kind | None:
        return self.place.kind if self.place else None

    @property
    def names(self) -> tuple[str, ...]:
        return self.place.names if self.place else ()

    @property
    def record(self) -> Record | None:
        """What is written there now, decoded; None: deleted, or not readable."""
        return decoded(self.place, self.now)

    @property
    def record_before(self) -> Record | None:
        return decoded(self.place, self.before)


def decoded(place: Place | None, kv: KeyValue | None) -> Record | None:
    """The record of leaderjob's own model, or None where there is none or it cannot be read."""
    if place is None or kv is None:
        return None
    try:
        return decode(place.kind, kv).record
    except CorruptRecord:
        return None


@dataclass(frozen=True, slots=True)
class Served:
    """What a replica's disk has of a job: the bytes under the digest of a manifest, hashed again.

    :param digest: of the manifest. :param whole: whether its manifest and all of its files match their digests.
    :param run: the run that the bytes themselves name (``run.json`` of the jobs under watch), if they do.
    """

    replica: str
    job: str
    digest: str
    whole: bool
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Remains:
    """What is there at the end.

    :param leases: of the namespace's keys, as far as etcd still has them.
    :param processes: ids of processes of jobs that still live, by pid and start time in clock ticks.
    :param replicas: pids of the replicas that run.
    """

    at: float
    leases: frozenset[int] = frozenset()
    processes: frozenset[tuple[int, int]] = frozenset()
    replicas: frozenset[int] = frozenset()


@dataclass(frozen=True)
class History:
    """Everything that ``check`` looks at. Recorded by :class:`Recorder`, or written by hand in tests.

    :param changes: of all keys under the namespace, in the order of revisions.
    :param effects: of jobs, in the order of boot time. :param told: by replicas, each in its own order.
    :param rest: the keys as a linearizable read showed them at the end, when the replicas had nothing to do and
        were all well; None: they may still have been at work, and I8 and the end of I10 are not checked.
    :param remains: what is left; None: not looked at, and I12 is not checked.
    :param served: what replicas have on disk; None: not looked at.
    """

    namespace: str
    changes: tuple[Change, ...] = ()
    effects: tuple[Effect, ...] = ()
    told: tuple[Told, ...] = ()
    gaps: tuple[Gap, ...] = ()
    interventions: tuple[Interval, ...] = ()
    rest: Mapping[str, KeyValue] | None = None
    remains: Remains | None = None
    served: tuple[Served, ...] | None = None
    ended_at: float = field(default=0.0)
    """Boot time in seconds at which the recording ended; 0: with the last thing that it has."""
    booted: datetime | None = None
    """The time of day at boot time 0; None: not known, and whether fires are accounted for in time is not checked."""

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.namespace)

    @property
    def end(self) -> float:
        times = [change.at for change in self.changes] + [told.at for told in self.told]
        return max([self.ended_at, *times, *(effect.at for effect in self.effects)])

    def of(self, *kinds: Kind) -> Iterator[Change]:
        """The changes of keys of these kinds."""
        return (change for change in self.changes if change.kind in kinds)

    def excused(self, kind: Intervention, at: float, *, about: str = "") -> bool:
        """Whether an intervention of that kind was going on: on whom this is about, or on all."""
        return any(
            each.kind is kind
            and (not each.about or each.about == about)
            and each.since <= at <= (float("inf") if each.until is None else each.until)
            for each in self.interventions
        )
