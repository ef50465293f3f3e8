"""Writing in the name of a term: every write carries the fence, and an unanswered one is settled.

A write that timed out may be done, not done, or be done later, and reading back does not tell (of 40
timed-out transactions that a linearizable read showed as not done, 33 were committed afterwards). So
each write compares the ``mod_revision`` of a record that it changes, and after an unanswered one the
same write is sent again: if that succeeds, the first can no longer land; if it fails, the records are
compared with what was to be written.
"""

import asyncio
from collections.abc import Sequence

from leaderjob.errors import LeaderjobError
from leaderjob.etcd import (
    AmbiguousWrite,
    Compare,
    EtcdUnavailable,
    Get,
    NoSpace,
    Op,
    Put,
    Txn,
    TxnResult,
)
from leaderjob.recipes import Leadership, NotLeader, fence

_PAUSE_S = 0.1


class Conflict(LeaderjobError):
    """A record is no longer as it was read: read again and decide again."""


class FencedWriter:
    """Commits writes of one term."""

    def __init__(self, leadership: Leadership) -> None:
        self.leadership = leadership
        self._fence = fence(leadership.term)

    async def commit(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int:
        """Write ``ops`` if the term is in office and ``compares`` hold; returns the revision.

        At least one compare must be on the ``mod_revision`` of a key that ``ops`` write, so that the
        same write cannot be committed twice. Waits while etcd does not answer, as long as the term is
        trusted.

        :raises Conflict: a compare does not hold, and nothing was written.
        :raises NotLeader: a newer term is in office. :raises TermLost: the trust deadline has passed.
        :raises ValueTooLarge: more than 124 compares, 126 operations or 125 puts; it was not sent.
        """
        term = self.leadership.term
        puts = [op for op in ops if isinstance(op, Put)]
        failure: list[Op] = [Txn(self._fence), *(Get(put.key) for put in puts)]
        ambiguous = False
        while True:
            self.leadership.check()
            try:
                result = await self.leadership.etcd.txn([*self._fence, *compares], ops, failure)
            except AmbiguousWrite:
                ambiguous = True
            except (EtcdUnavailable, NoSpace):
                pass
            else:
                if result.succeeded:
                    return result.revision
                inner = result.results[0]
                if not (isinstance(inner, TxnResult) and inner.succeeded):
                    self.leadership.end("a newer term is in office, or the key is gone")
                    raise NotLeader(f"term {term.token} no longer holds office; the write was refused")
                if ambiguous and (revision := _landed(puts, result)) is not None:
                    return revision
                raise Conflict("a record has changed since it was read; nothing was written")
            await asyncio.sleep(_PAUSE_S)


def _landed(puts: Sequence[Put], result: TxnResult) -> int | None:
    """The revision at which the unanswered write was committed, if what it puts is what is there."""
    revision = None
    for index, put in enumerate(puts, start=1):
        found = result.range(index).first
        if found is None or found.value != put.value:
            return None
        revision = max(revision or 0, found.mod_revision)
    return revision
