"""Writes that are done once or not at all, and it is known which, also when etcd did not answer.

To read back does not tell: a write that got no answer may be done later. And to send it again may do it twice, where
others have used up by then what it wrote. So each write goes together with its id, under a key of this session, the
receipt, and under a compare with what that key was before. A write that is found in the receipt was done. Whenever
the receipt has changed, nothing that was sent before can be done any more; nor when the session's lease is gone.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from leaderjob.clock import boottime
from leaderjob.etcd import (
    AmbiguousWrite,
    Compare,
    EtcdError,
    EtcdUnavailable,
    Get,
    NoSpace,
    Op,
    Put,
    RequestRefused,
    Txn,
    TxnResult,
    modified_at,
)
from leaderjob.recipes.errors import SessionLost
from leaderjob.recipes.session import Session

_SETTLE_S = 10.0
_PAUSE_S = 0.1
_CANCELLED_S = 1.0


class Committed(NamedTuple):
    """Whether a write was done; and at which revision, or at which one its compares did not hold."""

    done: bool
    revision: int


IfCancelled = Callable[[Committed | None], Awaitable[None]]


class Receipt:
    """One key of a session, for one write after the other."""

    def __init__(self, session: Session, key: str) -> None:
        self._session = session
        self._key = key
        self._mod_revision = 0

    async def commit(self, compares: Sequence[Compare], ops: Sequence[Op]) -> Committed:
        """Do ``ops`` if ``compares`` hold: once, and never later than this returns.

        :raises AmbiguousWrite: etcd did not answer for long, or the lease or the receipt is gone: it may be done.
        :raises SessionLost: the lease is gone; nothing was done. :raises EtcdError: etcd did not do it.
        """
        mine = secrets.token_hex(8).encode()
        give_up_at = boottime() + _SETTLE_S
        unanswered: AmbiguousWrite | None = None
        failed: EtcdError
        while True:
            try:
                result = await self._send(compares, ops, mine, again=unanswered is not None)
            except AmbiguousWrite as error:
                unanswered = failed = error
            except NoSpace as full:
                done = await self._done_all_the_same(mine)
                if done is not None:
                    return done
                if unanswered is None:
                    raise
                failed = full
            except EtcdError as error:
                failed = error
                await self._learn_more(error, unanswered)
            else:
                settled = self._settle(result, mine, unanswered)
                if settled is not None:
                    return settled
                continue
            if self._session.is_lost or boottime() >= give_up_at:
                raise unanswered or failed
            await asyncio.sleep(_PAUSE_S)

    async def _send(
        self, compares: Sequence[Compare], ops: Sequence[Op], mine: bytes, *, again: bool
    ) -> TxnResult:
        """What etcd says to it; where the compares do not hold, what was sent before is made void."""
        lease, unchanged = self._session.lease_id, modified_at(self._key, self._mod_revision)
        otherwise: list[Op] = [Get(self._key)]
        if again:
            otherwise.append(Txn((unchanged,), (Put(self._key, b"", lease=lease),)))
        return await self._session.etcd.txn(
            [unchanged, *compares], [*ops, Put(self._key, mine, lease=lease)], otherwise
        )

    async def _done_all_the_same(self, mine: bytes) -> Committed | None:
        """A write that took the last room can be done and told to have found none (etcd #16659). As it was answered it
        is not under way any more, so to look tells."""
        try:
            found = await self._session.etcd.get(self._key)
        except EtcdError as error:
            raise AmbiguousWrite(self._session.etcd.connection.endpoint, str(error)) from error
        if found is None or found.value != mine:
            return None
        self._mod_revision = found.mod_revision
        return Committed(True, found.mod_revision)

    async def _learn_more(self, error: EtcdError, unanswered: AmbiguousWrite | None) -> None:
        """Return where a write that was not done may be sent again: etcd could not be reached since an earlier try got
        no answer, or its lease is there after all. Raise otherwise: that the earlier try may be done, if there was one."""
        try:
            if not (isinstance(error, RequestRefused) and "lease not found" in str(error)):
                raise error
            await self._session.renew()
        except (EtcdError, SessionLost) as final:
            if unanswered is None:
                raise
            if not isinstance(final, EtcdUnavailable):
                raise unanswered from final

    def _settle(self, result: TxnResult, mine: bytes, unanswered: AmbiguousWrite | None) -> Committed | None:
        """What an answer tells; None: nothing, the write has to be sent again."""
        if result.succeeded:
            self._mod_revision = result.revision
            return Committed(True, result.revision)
        found = result.range(0).first
        before, now = self._mod_revision, found.mod_revision if found is not None else 0
        self._mod_revision = now
        if unanswered is None:
            # Unless somebody else has touched the receipt it was for the compares.
            return Committed(False, result.revision) if now == before else None
        if now == before:
            self._mod_revision = result.revision  # what was sent before is void
            return Committed(False, result.revision)
        if found is not None and found.value == mine:
            return Committed(True, now)
        if found is not None and found.value == b"":
            return Committed(False, now)  # an earlier try made it void, and got no answer either
        raise unanswered


class Receipts:
    """As many receipts of one session as there are writes at a time.

    :param prefix: of their keys, with a trailing slash.
    """

    def __init__(self, session: Session, prefix: str) -> None:
        self._session = session
        self._prefix = prefix
        self._free: list[Receipt] = []

    async def commit(
        self, compares: Sequence[Compare], ops: Sequence[Op], *, if_cancelled: IfCancelled | None = None
    ) -> Committed:
        """See :meth:`Receipt.commit`. Cancelled, it goes on for up to a second, so that it is known what was done.

        :param if_cancelled: then called with that; with None: it is not known.
        """
        self._session.check()
        async with self._one() as receipt:
            task = asyncio.ensure_future(receipt.commit(compares, ops))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                try:
                    await asyncio.wait([task], timeout=_CANCELLED_S)
                finally:  # cancelled once more or not
                    known = task.done() and not task.cancelled() and task.exception() is None
                    if if_cancelled is not None:
                        await if_cancelled(task.result() if known else None)
                raise
            finally:
                task.cancel()
                await asyncio.wait([task])

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[Receipt]:
        if self._free:
            receipt = self._free.pop()
        else:
            key = f"{self._prefix}{self._session.lease_id:x}-{secrets.token_hex(4)}"
            receipt = Receipt(self._session, key)
        yield receipt
        self._free.append(receipt)  # not one that was left in the middle: nothing is known of it
