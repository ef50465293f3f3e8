"""An item in the hands of one consumer, and the ways out of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any

from leaderjob.etcd import Compare, Delete, EtcdError, Op, Put, Txn, created_at, modified_at
from leaderjob.recipes.errors import ClaimLost, NotClaimed, SessionLost
from leaderjob.recipes.holding import Holding
from leaderjob.recipes.queue_item import Item, QueueKeys, encode
from leaderjob.recipes.receipt import Committed, Receipts
from leaderjob.recipes.session import Session
from leaderjob.recipes.while_held import while_held
from leaderjob.telemetry.events import Events, emit


class Claimed(Holding):
    """An item that this consumer alone has, until it acks or nacks it, or its session ends.

    :param item: with this try counted. :param claimed_at: the revision of the claim.
    :param max_tries: after so many a nack makes it a dead letter.
    """

    def __init__(
        self,
        session: Session,
        receipts: Receipts,
        keys: QueueKeys,
        item: Item,
        *,
        claimed_at: int,
        confirmed_at: float,
        max_tries: int | None,
    ) -> None:
        claim = keys.claim_of(item.id)
        super().__init__(session.etcd, session, claim, claimed_at, confirmed_at=confirmed_at)
        self.item = item
        self._receipts = receipts
        self._keys = keys
        self._max_tries = max_tries
        self._settled = False
        session.confirmations.append(self.confirm)

    @property
    def id(self) -> str:
        return self.item.id

    @property
    def value(self) -> bytes:
        return self.item.value

    @property
    def tries(self) -> int:
        """How many consumers were given it so far, this one among them."""
        return self.item.tries

    @property
    def token(self) -> int:
        """The fencing token: grows with each claim. Hand it to whatever is written to, to refuse older ones."""
        return self.create_revision

    @property
    def fence(self) -> Compare:
        """Add this to a transaction, and it does nothing once another consumer may have the item."""
        return created_at(self.key, self.create_revision)

    async def ack(self) -> None:
        """It is done: remove it from the queue.

        :raises ClaimLost: another consumer may have it: it stays. :raises NotClaimed: it was acked or nacked already.
        :raises EtcdError: etcd does not answer: it may be done or not. Then the session is lost, so that the item is
            not kept from others.
        """
        await self._settle([Delete(self._item_key), Delete(self.key)])

    async def nack(self) -> None:
        """It could not be done: it goes back to its place in the queue, for the next consumer; or to the dead letters,
        when it was tried as often as it may be.

        :raises ClaimLost: see :meth:`ack`. :raises NotClaimed: see there. :raises EtcdError: see there.
        """
        if self._max_tries is None or self.tries < self._max_tries:
            await self._settle([Delete(self.key)])
            return
        dead = self._keys.dead + self.id
        buried = (Delete(self._item_key), Put(dead, encode(self.value, self.tries)))
        await self._settle([Delete(self.key), Txn((self._item_untouched,), buried)])
        emit(Events.ITEM_BURIED, key=dead, tries=self.tries)

    def lost(self) -> ClaimLost:
        return ClaimLost(f"the claim on item {self.id} is lost: {self.reason}")

    def check(self) -> None:
        """Call this before every side effect. :raises ClaimLost: it is over or uncertain."""
        if not self._settled:
            super().check()

    async def wait_ended(self) -> str:
        """Wait until it is lost; returns why. What was acked or nacked is never lost."""
        reason = await super().wait_ended()
        if self._settled:
            await asyncio.Event().wait()
        return reason

    def tell_trust_lost(self) -> None:
        self._tell_lost("no keepalive was confirmed in time")

    def key_is_gone(self) -> None:
        super().key_is_gone()
        self._tell_lost(self.reason)

    def _tell_lost(self, reason: str) -> None:
        if not self._settled:
            emit(Events.CLAIM_LOST, key=self.key, reason=reason)

    async def leave(self, *, counts: bool = True) -> None:
        """Give it back after a failure, of whatever kind, if it was not settled, and as far as that can be done.

        :param counts: as :meth:`nack` does; else as if it had never been claimed.
        """
        before = Put(self._item_key, encode(self.value, self.tries - 1))
        with suppress(ClaimLost, NotClaimed, SessionLost):
            try:
                if counts:
                    await self.nack()
                else:
                    await self._settle([Delete(self.key), Txn((self._item_untouched,), (before,))])
            except EtcdError as error:
                emit(Events.CONNECTION_TROUBLE, reason=error)

    @property
    def _item_key(self) -> str:
        return self._keys.items + self.id

    @property
    def _item_untouched(self) -> Compare:
        """Nobody has deleted or changed the item by hand since it was claimed: what is written would bring it back."""
        return modified_at(self._item_key, self.create_revision)

    async def _settle(self, ops: Sequence[Op]) -> None:
        if self._settled:
            raise NotClaimed(f"item {self.id}")
        self._settled = True
        self.session.confirmations.remove(self.confirm)
        try:
            committed = await self._receipts.commit([self.fence], ops, if_cancelled=self._cancelled)
        except SessionLost:
            self.end("the session is over")
            raise self.lost() from None
        except EtcdError:
            await self._cancelled(None)
            raise
        if not committed.done:
            self.end("its key is gone: it was deleted, or the lease ran out")
            raise self.lost()

    async def _cancelled(self, committed: Committed | None) -> None:
        if committed is None:
            self.session.lose(
                f"it is not known whether item {self.id} is claimed still, and it must not be kept"
            )


class Claiming:
    """``await`` it for a :class:`Claimed`; or, in ``async with``, run a block that has it."""

    def __init__(self, claim: Callable[[], Awaitable[Claimed]]) -> None:
        self._claim = claim
        self._block: AbstractAsyncContextManager[Claimed] | None = None

    def __await__(self) -> Generator[Any, None, Claimed]:
        return self._claim().__await__()

    async def __aenter__(self) -> Claimed:
        self._block = _working(self._claim)
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        block, self._block = self._block, None
        return None if block is None else await block.__aexit__(kind, error, trace)


@asynccontextmanager
async def _working(claim: Callable[[], Awaitable[Claimed]]) -> AsyncIterator[Claimed]:
    claimed = await claim()
    try:
        async with while_held(claimed):
            yield claimed
    except BaseException:
        await claimed.leave()
        raise
    with suppress(NotClaimed):  # the block did it
        await claimed.ack()
