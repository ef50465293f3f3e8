"""Writing in the name of a term: every write carries the fence, and an unanswered one is settled.

A write that timed out may be done, not done, or be done later, and reading back does not tell (of 40
timed-out transactions that a linearizable read showed as not done, 33 were committed afterwards). So
each write compares the ``mod_revision`` of a record that it changes, and after an unanswered one the
same write is sent again: if that succeeds, the first can no longer land; if it fails, the records are
compared with what was to be written. Where etcd goes on refusing the second, the doubt is the caller's.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from leaderjob.errors import LeaderjobError
from leaderjob.etcd import (
    AmbiguousWrite,
    ClientClosed,
    Compare,
    EtcdError,
    EtcdUnavailable,
    Get,
    HistoryWentBack,
    KeyValue,
    NoSpace,
    Op,
    Put,
    Txn,
    TxnResult,
    modified_at,
)
from leaderjob.recipes import Leadership, NotLeader, fence
from leaderjob.telemetry.events import Events, emit

_PAUSE_S = 0.1
_REFUSED_FOR_S = 10.0
_CALLS_AT_ONCE = 32
"""How many calls of one term are under way at most. A term begins with several for each job; more of them at once
would not be done earlier, and a keepalive would have to wait for all of them."""


class Conflict(LeaderjobError):
    """A record is no longer as it was read: read again and decide again."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A write that was done, at ``revision``; ``nested`` has, for each nested transaction in the order of
    the operations, whether its compares held."""

    revision: int
    nested: tuple[bool, ...]


class FencedWriter:
    """Commits writes of one term, and reads what they depend on."""

    def __init__(self, leadership: Leadership) -> None:
        self.leadership = leadership
        self._fence = fence(leadership.term)
        self._troubles: set[Events] = set()
        self._slots = asyncio.Semaphore(_CALLS_AT_ONCE)

    async def commit(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int:
        """Write ``ops`` if the term is in office and ``compares`` hold; returns the revision.

        At least one compare must be on the ``mod_revision`` of a key that ``ops`` write, so that the
        same write cannot be committed twice. Waits while etcd does not answer, as long as the term is
        trusted.

        :raises AmbiguousWrite: it got no answer, and has been refused since, for 10 s, or the client was closed: it may be done, not done, or be
            done later. :raises EtcdError: it was refused, and is not done.
        :raises Conflict: a compare does not hold, and nothing was written.
        :raises NotLeader: a newer term is in office. :raises TermLost: the trust deadline has passed.
        :raises ValueTooLarge: more than 124 compares, 126 operations or 125 puts; it was not sent.
        """
        return (await self.commit_nested(compares, ops)).revision

    async def commit_nested(self, compares: Sequence[Compare], ops: Sequence[Op]) -> Committed:
        """As :meth:`commit`, and tells what became of the transactions among ``ops``.

        Each of these only puts, and only where its compares hold.
        """
        term = self.leadership.term
        failure: list[Op] = [Txn(self._fence), *(Get(put.key) for put in _puts(ops))]
        ambiguous = False
        refused_at: float | None = None
        told: set[Events] = set()
        while True:
            try:
                async with self._slots:
                    self.leadership.check()
                    result = await self.leadership.etcd.txn([*self._fence, *compares], ops, failure)
            except (AmbiguousWrite, EtcdUnavailable, NoSpace) as error:
                # A write that took the last room can be done and told to have found none (etcd #16659).
                ambiguous = ambiguous or isinstance(error, AmbiguousWrite | NoSpace)
                refused_at = None
                self._tell(error, told)
            except EtcdError as refusal:
                # That the second try was refused says nothing of the first, which may be done yet.
                if not ambiguous or isinstance(refusal, HistoryWentBack):
                    raise
                refused_at = refused_at or time.monotonic()
                if isinstance(refusal, ClientClosed) or time.monotonic() - refused_at >= _REFUSED_FOR_S:
                    raise self._in_doubt(refusal) from refusal
                self._tell(refusal, told)
            else:
                if result.succeeded:
                    self._note_success(ops)
                    inner = (each.succeeded for each in result.results if isinstance(each, TxnResult))
                    return Committed(result.revision, tuple(inner))
                fenced = result.results[0]
                if not (isinstance(fenced, TxnResult) and fenced.succeeded):
                    self.leadership.end("a newer term is in office, or the key is gone")
                    raise NotLeader(f"term {term.token} no longer holds office; the write was refused")
                if ambiguous and (landed := _landed(ops, result)) is not None:
                    return landed
                raise Conflict("a record has changed since it was read; nothing was written")
            await asyncio.sleep(_PAUSE_S)

    async def settle(self, key: str) -> None:
        """Let no write land any more that compares the key's ``mod_revision`` and got no answer: the value that the key
        has is written again. What did land can be read from now on.

        :raises NotLeader: a newer term is in office. :raises TermLost: the trust deadline has passed.
        """
        while (found := await self.read(key)) is not None:
            try:
                await self.commit(
                    [modified_at(key, found.mod_revision)], [Put(key, found.value, lease=found.lease)]
                )
            except Conflict:
                continue
            return

    async def read(self, key: str) -> KeyValue | None:
        """The key as it is, by a linearizable read: to decide what to write. Waits as :meth:`commit` does.

        :raises TermLost: the trust deadline has passed.
        """
        told: set[Events] = set()
        while True:
            try:
                async with self._slots:
                    self.leadership.check()
                    found = await self.leadership.etcd.get(key)
            except EtcdUnavailable as error:
                self._tell(error, told)
            else:
                self._troubles.discard(Events.CONNECTION_TROUBLE)
                return found
            await asyncio.sleep(_PAUSE_S)

    def _in_doubt(self, refusal: EtcdError) -> AmbiguousWrite:
        return AmbiguousWrite(
            self.leadership.etcd.connection.endpoint, f"and each further try was refused: {refusal}"
        )

    def _tell(self, error: EtcdError, told: set[Events]) -> None:
        """Report trouble once, however many calls wait for its end. :param told: what this call has reported."""
        trouble = Events.ETCD_FULL if isinstance(error, NoSpace) else Events.CONNECTION_TROUBLE
        if trouble not in self._troubles | told:
            emit(trouble, term=self.leadership.term.token, reason=error)
        self._troubles.add(trouble)
        told.add(trouble)

    def _note_success(self, ops: Sequence[Op]) -> None:
        self._troubles.discard(Events.CONNECTION_TROUBLE)
        # An etcd that is full still deletes.
        if Events.ETCD_FULL in self._troubles and any(_puts(ops)):
            self._troubles.discard(Events.ETCD_FULL)
            emit(Events.ETCD_HAS_SPACE, term=self.leadership.term.token)


def _puts(ops: Sequence[Op]) -> Iterator[Put]:
    """All that may be put, by nested transactions too."""
    for op in ops:
        if isinstance(op, Put):
            yield op
        elif isinstance(op, Txn):
            yield from _puts(op.success)


def _landed(ops: Sequence[Op], result: TxnResult) -> Committed | None:
    """The unanswered write as it was committed, if what it puts is what is there.

    A nested transaction was done if what it puts was created or modified at the same revision.
    """
    found = {put.key: result.range(index).first for index, put in enumerate(_puts(ops), start=1)}
    revisions = set()
    for put in ops:
        if isinstance(put, Put):
            kv = found[put.key]
            if kv is None or kv.value != put.value:
                return None
            revisions.add(kv.mod_revision)
    if len(revisions) != 1:
        return None  # nothing was put, or not in one transaction
    revision = revisions.pop()

    def done(txn: Txn) -> bool:
        standing = [found[put.key] for put in _puts(txn.success)]
        return all(kv is not None and revision in (kv.create_revision, kv.mod_revision) for kv in standing)

    return Committed(revision, tuple(done(op) for op in ops if isinstance(op, Txn)))
