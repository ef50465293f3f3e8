"""Whether this is still the store that we know: a restored backup must not be led on unawares.

The highest revision seen and the random id under ``meta/history`` are kept on disk. If the revision has
fallen, or a pointer, fencing tokens could repeat. Whoever notices puts its suspicion into
``meta/history``, where every replica sees it: without that, the heartbeats would bring the revision back
to what was seen before, and who looked later would notice nothing. Nobody leads until an operator has
accepted the store as it is.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from leaderjob.atomic_files import make_directory, write_file
from leaderjob.clock import utcnow
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import AmbiguousWrite, Etcd, HistoryWentBack, Put, modified_at
from leaderjob.model.artifact import Pointer
from leaderjob.model.history import History, Suspicion
from leaderjob.model.ids import new_incarnation
from leaderjob.model.record import Record
from leaderjob.offload import in_own_thread
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import CorruptRecord, NewerRecord, decode
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit

Served = Callable[[], Mapping[str, tuple[str, int]]]
"""What a replica serves on its own disk: by job, the history and the sequence of its pointer."""


_DISK_TIMEOUT_S = 10.0


class HistoryInQuestion(LeaderjobError):
    """The store is not the one that this replica knew, or somebody doubts that. It must not be led on.

    ``history`` is the record that stands in the store.
    """

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


class StateUnwritable(LeaderjobError):
    """What was seen of the store cannot be kept on disk."""


class _Seen(Record):
    """What the disk remembers of the store."""

    history: str
    token_floor: int
    revision: int


class HistoryCheck:
    """Compares the store with what this replica saw of it before."""

    def __init__(self, etcd: Etcd, keys: Keys, replica: str, state_dir: Path, served: Served) -> None:
        self._etcd = etcd
        self._keys = keys
        self._replica = replica
        self._path = state_dir / "history.json"
        self._served = served
        self._noted: _Seen | None = None
        self._keeping: asyncio.Future[None] | None = None

    async def check(self) -> History:
        """The store's history, made if there is none yet, and noted on disk. One that cannot be read is
        written again from what this replica remembers. Nothing else is written to the store.

        :raises HistoryInQuestion: it is not the one that was seen before, or it is older.
        :raises StateUnwritable: it cannot be noted. :raises EtcdError: etcd does not answer.
        :raises NewerRecord: a newer release wrote it.
        """
        seen = self._seen()
        history, revision = await self._read_or_make(seen)
        if seen is not None and seen.history == history.id and history.suspicion is None:
            reason = await self._suspect(history, revision, seen)
            if reason is not None:
                history = await self._put_suspicion(reason, max(seen.revision, revision))
        if history.suspicion is not None:
            raise HistoryInQuestion(_explain(history.suspicion), history)
        if seen is not None and seen.history not in (history.id, *history.replaces):
            raise HistoryInQuestion(
                "this etcd store has another history than the one that this replica knew, so it serves what it "
                "has and does not stand for election. If it shall belong to this store from now on, stop it, "
                f"remove {self._path}, and start it again; where others check fencing tokens, first run "
                f"'leaderjob accept-restore --token-floor {seen.token_floor + seen.revision}'",
                history,
            )
        new = _Seen(history=history.id, token_floor=history.token_floor, revision=revision)
        await self._keep(new)
        return history

    async def doubt(self, error: HistoryWentBack) -> None:
        """Put into the store that it went back, as an answer has shown while this replica was at work.

        :raises EtcdError: etcd does not answer. Nothing else may be written before this has succeeded.
        """
        self._etcd.connection.accept_store()
        await self._put_suspicion(_went_back(error.found, error.known), error.known)

    async def note(self) -> None:
        """Keep the highest revision seen so far on disk. :raises StateUnwritable: it cannot be written."""
        noted, revision = self._noted, self._etcd.connection.highest_revision
        if noted is not None and revision > noted.revision:
            await self._keep(noted.model_copy(update={"revision": revision}))

    async def _suspect(self, history: History, revision: int, seen: _Seen) -> str | None:
        """What shows that the store is older than what was seen of it, or None."""
        if revision < seen.revision:
            return _went_back(revision, seen.revision)
        for job, (of_history, sequence) in self._served().items():
            found = await self._etcd.get(self._keys.pointer(job)) if of_history == history.id else None
            if found is None:
                continue
            try:
                pointer = decode(Kind.POINTER, found).record
            except (CorruptRecord, NewerRecord):
                continue  # the leader sees to it
            assert isinstance(pointer, Pointer)
            if pointer.sequence < sequence:
                return f"the results of {job} are at sequence {pointer.sequence}, but {sequence} was served before"
        return None

    async def _put_suspicion(self, reason: str, known_revision: int) -> History:
        while True:
            history, mod_revision, _ = await self._read()
            remembered = self._seen()
            if history is None:
                history = _remembered(remembered) if remembered else History(id=new_incarnation())
            known = max(known_revision, remembered.revision if remembered else 0)
            if history.suspicion is not None and history.suspicion.known_revision >= known:
                return history
            doubted = history.model_copy(
                update={
                    "suspicion": Suspicion(
                        replica=self._replica, reason=reason, known_revision=known, since=utcnow()
                    )
                }
            )
            if await self._replace(mod_revision, doubted):
                return doubted

    async def _read_or_make(self, seen: _Seen | None) -> tuple[History, int]:
        while True:
            history, mod_revision, revision = await self._read()
            if history is not None:
                return history, revision
            if seen is not None and mod_revision == 0:
                # Nothing but a reset, or a hand, removes it.
                return await self._put_suspicion(f"{self._keys.history} is gone", seen.revision), revision
            await self._replace(mod_revision, _remembered(seen) if seen else History(id=new_incarnation()))

    async def _read(self) -> tuple[History | None, int, int]:
        """The record (None: there is none that can be read), its ``mod_revision``, and the store's revision."""
        found = await self._etcd.range(self._keys.history)
        kv = next((kv for kv in found.kvs if kv.key == self._keys.history), None)
        if kv is None:
            return None, 0, found.revision
        try:
            record = decode(Kind.HISTORY, kv).record
        except CorruptRecord as corrupt:
            emit(Events.RECORD_QUARANTINED, reason=corrupt)
            return None, kv.mod_revision, found.revision
        assert isinstance(record, History)
        return record, kv.mod_revision, found.revision

    async def _replace(self, mod_revision: int, history: History) -> bool:
        """Whether it was written. An unanswered write may land at any time: then read again."""
        try:
            result = await self._etcd.txn(
                [modified_at(self._keys.history, mod_revision)], [Put(self._keys.history, history.to_bytes())]
            )
        except AmbiguousWrite:
            return False
        return result.succeeded

    def _seen(self) -> _Seen | None:
        try:
            return _Seen.from_bytes(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnwritable(self._cannot("read", str(error.strerror))) from error
        except ValidationError as error:
            emit(
                Events.RECORD_QUARANTINED, reason=f"{self._path} cannot be read: {error.error_count()} errors"
            )
            return None

    async def _keep(self, seen: _Seen) -> None:
        """Write it to the disk; one that hangs holds up a thread, and nothing else.

        :raises StateUnwritable: it was not written, or not in time.
        """
        await self._until_kept()
        self._keeping = in_own_thread(lambda: self._note(seen), "history noted")
        await self._until_kept()
        self._keeping.result()

    async def _until_kept(self) -> None:
        """What is being written, if anything is, comes first. :raises StateUnwritable: the disk hangs."""
        if self._keeping is not None:
            done, _ = await asyncio.wait([self._keeping], timeout=_DISK_TIMEOUT_S)
            if not done:
                raise StateUnwritable(self._cannot("written", f"not within {_DISK_TIMEOUT_S:g} s"))

    def _note(self, seen: _Seen) -> None:
        try:
            make_directory(self._path.parent)
            write_file(self._path, seen.to_bytes())
        except OSError as error:
            raise StateUnwritable(self._cannot("written", str(error.strerror))) from error
        self._noted = seen

    def _cannot(self, what: str, why: str) -> str:
        return (
            f"{self._path} cannot be {what}: {why}. Without it a store that was restored from a backup "
            "is not noticed, so this replica serves but does not stand for election; mend the disk or its rights"
        )


def _remembered(seen: _Seen) -> History:
    return History(id=seen.history, token_floor=seen.token_floor)


def _went_back(found: int, known: int) -> str:
    return f"etcd is at revision {found}, but revision {known} was seen before"


def _explain(suspicion: Suspicion) -> str:
    return (
        f"{suspicion.reason} (noticed by {suspicion.replica}): the store was restored from a backup, or reset. "
        "Leading on it could repeat fencing tokens, so nobody stands for election, and each replica serves what "
        "it has. If the store shall be used as it is, run 'leaderjob accept-restore'"
    )


def shows_another(view: View, history: History) -> bool:
    """Whether another history began, or whether this one is in question is not as it was."""
    found = view.history()
    if found is None:
        return False
    shown = found.record
    return (shown.id, shown.suspicion is None) != (history.id, history.suspicion is None)
