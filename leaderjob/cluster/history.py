"""Whether this is still the store that we know: a restored backup must not be led on unawares.

The highest revision seen and the random id under ``meta/history`` are kept on disk. If the id is another
one, or the revision has fallen, fencing tokens could repeat: such a replica serves what it has and does
not stand for election.
"""

from pathlib import Path

from pydantic import ValidationError

from leaderjob.etcd import AmbiguousWrite, Etcd, HistoryWentBack, Put, modified_at
from leaderjob.model.history import History
from leaderjob.model.ids import new_incarnation
from leaderjob.model.record import Record
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import CorruptRecord, decode
from leaderjob.telemetry.events import Events, emit


class _Seen(Record):
    """What the disk remembers of the store."""

    history: str
    token_floor: int
    revision: int


class HistoryCheck:
    """Compares the store with what this replica saw of it before."""

    def __init__(self, etcd: Etcd, keys: Keys, state_dir: Path) -> None:
        self._etcd = etcd
        self._key = keys.history
        self._path = state_dir / "history.json"

    async def check(self) -> History:
        """The store's history, made if there is none yet, and noted on disk. One that cannot be read is
        written again from what this replica remembers.

        :raises HistoryWentBack: it is not the one that was seen before, or it is older.
        :raises EtcdError: etcd does not answer.
        """
        history, revision = await self._read_or_make()
        seen = self._seen()
        if seen is not None and (seen.history != history.id or revision < seen.revision):
            raise HistoryWentBack(seen.revision, revision)
        self._note(_Seen(history=history.id, token_floor=history.token_floor, revision=revision))
        return history

    async def _read_or_make(self) -> tuple[History, int]:
        while True:
            found = await self._etcd.range(self._key)
            before = found.first.mod_revision if found.first else 0
            if found.first is not None:
                try:
                    record = decode(Kind.HISTORY, found.first).record
                except CorruptRecord as corrupt:
                    emit(Events.RECORD_QUARANTINED, reason=corrupt)
                else:
                    assert isinstance(record, History)
                    return record, found.revision
            remembered = self._seen()
            made = (
                History(id=remembered.history, token_floor=remembered.token_floor)
                if remembered and found.first
                else History(id=new_incarnation())
            )
            try:
                await self._etcd.txn([modified_at(self._key, before)], [Put(self._key, made.to_bytes())])
            except AmbiguousWrite:
                continue  # whoever's write it was, the next read finds it, and it is never deleted

    def _seen(self) -> _Seen | None:
        try:
            return _Seen.from_bytes(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            emit(
                Events.RECORD_QUARANTINED, reason=f"{self._path} cannot be read: {error.error_count()} errors"
            )
            return None

    def _note(self, seen: _Seen) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_bytes(seen.to_bytes())
        beside.replace(self._path)
