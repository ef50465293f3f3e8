"""The recorder: what etcd commits below a namespace, from the first revision on, as it happens."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from leaderjob.clock import boottime, utcnow
from leaderjob.etcd import KeyValue
from leaderjob.model.artifact import Pointer
from leaderjob.model.member import Member
from leaderjob.records.keys import Keys, Kind
from tests.faults.history.effects import Effect
from tests.faults.history.gateway import Event, Gateway, GatewayCompacted, GatewaySilent
from tests.faults.history.jobs_under_watch import process_started
from tests.faults.history.past import Change, Gap, History, Interval, Intervention, Remains, decoded
from tests.faults.history.watched import Watched

_PAUSE_S = 0.05
_END_TIMEOUT_S = 15.0

_T = TypeVar("_T")


class Recorder:
    """Watches a namespace in a thread of its own; a context manager. Open it before the first replica starts.

    It reads from one member, and from the next one when that has been silent for two seconds: a quiet member may
    be one that is cut off. Nothing is lost by that, and nothing is recorded twice.

    :param endpoints: ``HOST:PORT`` of each member; best past all faults, as ``link.addresses.listens_to_clients``.
    :param source: the address to come from, as ``link.unhurt_source``.
    :param start_revision: 1 unless the store is older than what is to be recorded, and others have compacted it.
    """

    def __init__(
        self, endpoints: Sequence[str], namespace: str, *, source: str | None = None, start_revision: int = 1
    ) -> None:
        self.keys = Keys(namespace)
        self._endpoints = list(endpoints)
        self._source = source
        self._lock = threading.Condition()
        self._changes: list[Change] = []
        self._state: dict[str, KeyValue] = {}
        self._gaps: list[Gap] = []
        self._interventions: list[Interval] = []
        self._next = start_revision
        self._gateway: Gateway | None = None
        self._closed = False
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._record, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
        self._interrupt()
        self._thread.join()

    def switch(self, endpoint: str) -> None:
        """Read from this member from now on, which may be a new one."""
        with self._lock:
            self._endpoints = [endpoint, *(other for other in self._endpoints if other != endpoint)]
        self._interrupt()

    def note(self, kind: Intervention, *, since: float, until: float | None = None, about: str = "") -> None:
        """Say what was done to the replicas or to etcd, so that what follows from it is no violation.

        :param since: boot time in seconds; ``until`` too, with some time for its consequences.
        """
        self._interventions.append(Interval(kind, since, until, about))

    @contextmanager
    def noting(self, kind: Intervention, *, about: str = "", aftermath_s: float = 0.0) -> Iterator[None]:
        """The same, for as long as the block lasts, and ``aftermath_s`` longer."""
        since = boottime()
        try:
            yield
        finally:
            self.note(kind, since=since, until=boottime() + aftermath_s, about=about)

    def history(
        self, watched: Watched | None = None, *, at_rest: bool = False, afterwards: bool = False
    ) -> History:
        """All that happened until now. The recording goes on, so that it may be asked for again.

        :param watched: where jobs and replicas left their lines.
        :param at_rest: the replicas that run have nothing to do, and had time to take all in.
        :param afterwards: replicas have ended, in order or longer than a TTL ago (others may run): what is left?
        :raises AssertionError: etcd does not answer, so that nobody can tell what it has committed.
        """
        state, end = self._catch_up()
        with self._lock:
            changes = tuple(change for change in self._changes if change.revision < end)
            gaps, interventions = tuple(self._gaps), tuple(self._interventions)
        effects = watched.effects() if watched else ()
        return History(
            self.keys.namespace,
            changes,
            effects,
            watched.told() if watched else (),
            gaps,
            interventions,
            rest=state if at_rest else None,
            remains=self._remains(changes, effects) if afterwards else None,
            served=watched.served(_published(changes)) if watched else None,
            ended_at=boottime(),
            booted=utcnow() - timedelta(seconds=boottime()),
        )

    def caught_up_in_a_full_store(self) -> int:
        """A revision up to which all is recorded, so that what came before may be compacted. Nothing can be put
        there, but the mark of an earlier :meth:`history` can be deleted, once."""
        deleted = self._ask(lambda gateway: gateway.delete(self._mark))
        self._hear_of(deleted)
        return deleted

    @property
    def _mark(self) -> str:
        return f"{self.keys.root}recorder/mark"

    def _catch_up(self) -> tuple[Mapping[str, KeyValue], int]:
        """The keys as they are at a revision, once everything before that one is recorded; and the revision.

        A key of our own marks it: when that is heard of, nothing from before can be missing.
        """

        def mark_and_read(gateway: Gateway) -> tuple[dict[str, KeyValue], int]:
            marked = gateway.put(self._mark, b"")
            return gateway.range(self.keys.root, revision=marked), marked

        known_gaps = len(self._gaps)
        state, marked = self._ask(mark_and_read)
        del state[self._mark]
        self._hear_of(marked)
        # What a gap was bridged with may be younger than the mark.
        return (state, marked) if len(self._gaps) == known_gaps else self._catch_up()

    def _hear_of(self, marked: int) -> None:
        with self._lock:
            heard = self._lock.wait_for(lambda: self._trouble or self._next > marked, _END_TIMEOUT_S)
            if self._trouble is not None:
                raise AssertionError("the recorder has failed") from self._trouble
        assert heard, f"the watch brings nothing: revision {marked} is not heard of, only {self._next - 1}"

    def _remains(self, changes: Sequence[Change], effects: Sequence[Effect]) -> Remains:
        leases = {kv.lease for change in changes for kv in (change.now, change.before) if kv and kv.lease}
        left = self._ask(lambda gateway: gateway.leases())
        processes = {effect.process for effect in effects}
        members = {
            member.pid
            for change in changes
            for kv in (change.now, change.before)
            if isinstance(member := decoded(change.place, kv), Member)
        }
        return Remains(
            boottime(),
            frozenset(leases) & left,
            frozenset(process for process in processes if _lives(*process)),
            frozenset(pid for pid in members if Path(f"/proc/{pid}/exe").exists()),
        )

    def _ask(self, question: Callable[[Gateway], _T]) -> _T:
        """The answer of the first member that has one, on a connection of its own."""
        give_up_at = time.monotonic() + _END_TIMEOUT_S
        while True:
            with self._lock:
                endpoints = list(self._endpoints)
            for endpoint in endpoints:
                try:
                    with Gateway(endpoint, source=self._source) as gateway:
                        return question(gateway)
                except GatewaySilent as silent:
                    reason = silent
            if time.monotonic() > give_up_at:
                raise AssertionError("no member of etcd answers the recorder") from reason
            time.sleep(_PAUSE_S)

    def _interrupt(self) -> None:
        with self._lock:
            gateway = self._gateway
        if gateway is not None:
            gateway.interrupt()

    def _record(self) -> None:
        try:
            while not self._closed:
                self._record_from_one()
        except Exception as error:  # noqa: BLE001 - raised where the history is asked for
            with self._lock:
                self._trouble = error
                self._lock.notify_all()

    def _record_from_one(self) -> None:
        with self._lock:
            endpoint = self._endpoints[0]
        with Gateway(endpoint, source=self._source) as gateway:
            with self._lock:
                self._gateway = gateway
            try:
                # One earlier, because from the revision of a compaction on etcd leaves out a deletion at that very
                # revision (etcd #18089); what comes twice is dropped.
                for events in gateway.watch(self.keys.root, max(self._next - 1, 1)):
                    self._add(events)
            except GatewaySilent:
                self._move_on(endpoint)
            except GatewayCompacted as compacted:
                self._bridge(compacted.revision)
            finally:
                with self._lock:
                    self._gateway = None

    def _move_on(self, endpoint: str) -> None:
        with self._lock:
            if self._endpoints[0] == endpoint:  # nobody led it elsewhere meanwhile
                self._endpoints = [*self._endpoints[1:], endpoint]
        if not self._closed:
            time.sleep(_PAUSE_S)

    def _add(self, events: Sequence[Event]) -> None:
        at = boottime()
        with self._lock:
            for event in events:
                if event.now.mod_revision >= self._next:
                    now = None if event.deleted else event.now
                    self._apply(event.now.key, event.now.mod_revision, at, now, event.before)
            self._next = max(self._next, events[-1].now.mod_revision + 1)
            self._lock.notify_all()

    def _bridge(self, first_known: int) -> None:
        """Revisions were compacted before they were read: note the gap, and go on from what is there."""
        listing, revision = self._ask(lambda gateway: gateway.listing(self.keys.root))
        at = boottime()
        with self._lock:
            self._gaps.append(Gap(self._next, revision, f"etcd was compacted at revision {first_known}"))
            for key in [key for key in self._state if key not in listing]:
                self._apply(key, revision, at, None, self._state[key], listed=True)
            for kv in listing.values():
                if self._state.get(kv.key) != kv:
                    self._apply(kv.key, revision, at, kv, self._state.get(kv.key), listed=True)
            self._next = revision + 1
            self._lock.notify_all()

    def _apply(
        self,
        key: str,
        revision: int,
        at: float,
        now: KeyValue | None,
        before: KeyValue | None,
        *,
        listed: bool = False,
    ) -> None:
        if key.startswith(f"{self.keys.root}recorder/"):
            return
        if now is None:
            self._state.pop(key, None)
        else:
            self._state[key] = now
        place = self.keys.locate(key)
        self._changes.append(Change(revision, at, key, now, before, place, listed))


def _published(changes: Sequence[Change]) -> dict[str, set[str]]:
    """The digests of the manifests that pointers ever named, by job."""
    found: dict[str, set[str]] = {}
    for change in changes:
        if (
            change.kind is Kind.POINTER
            and isinstance(pointer := change.record, Pointer)
            and pointer.file_count
        ):
            found.setdefault(change.names[0], set()).add(pointer.digest)
    return found


def _lives(pid: int, started: int) -> bool:
    try:
        if process_started(pid) != started:
            return False
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX" and pid != os.getpid()
