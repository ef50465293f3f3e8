"""An item in the hands of one consumer, and the ways out of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any

from leaderjob.etcd import Compare, Delete, EtcdError, Op, Put, Txn, modified_at
from leaderjob.recipes.errors import ClaimLost, NotClaimed, SessionLost
from leaderjob.recipes.queue_item import Item, QueueKeys, encode
from leaderjob.recipes.receipt import Committed, Receipts
from leaderjob.recipes.session import Session
from leaderjob.recipes.tenure import Hold
from leaderjob.recipes.while_held import while_held
from leaderjob.telemetry.events import Events, emit


class ItemClaim(Hold):
    """A claim on an item, until that is acked or nacked, which it may be while it is in use; or until it is lost.

    :param claimed_at: the revision of the claim.
    """

    def __init__(
        self, session: Session, keys: QueueKeys, item: Item, *, claimed_at: int, confirmed_at: float
    ) -> None:
        key = keys.claim_of(item.id)
        super().__init__(session.etcd, session, key, claimed_at, confirmed_at=confirmed_at)
        self.item = item
        self._settled = False
        self.begin()

    def lost(self) -> ClaimLost:
        return ClaimLost(f"the claim on item {self.item.id} is lost: {self.reason}")

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

    def _tell_trust_lost(self) -> None:
        self._tell_lost("no keepalive was confirmed in time")

    def _key_is_gone(self) -> None:
        super()._key_is_gone()
        self._tell_lost(self.reason)

    def _tell_lost(self, reason: str) -> None:
        if not self._settled:
            emit(Events.CLAIM_LOST, key=self.key, reason=reason)


class Claimed(ItemClaim):
    """An item that this consumer alone has, until it acks or nacks it, or its session ends.

    :param item: with this try counted. :param max_tries: after so many a nack makes it a dead letter.
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
        super().__init__(session, keys, item, claimed_at=claimed_at, confirmed_at=confirmed_at)
        self._receipts = receipts
        self._item_key = keys.items + item.id
        self._dead_key = keys.dead + item.id
        self._max_tries = max_tries

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

    async def ack(self) -> None:
        """It is done: remove it from the queue.

        :raises ClaimLost: another consumer may have it: it stays. :raises NotClaimed: it was acked or nacked already.
        :raises EtcdError: etcd does not answer: it may be done or not. Then the session is lost, so that the item is
            not kept from others.
        """
        await self._settle(Delete(self._item_key))

    async def nack(self) -> None:
        """It could not be done: it goes back to its place in the queue, for the next consumer; or to the dead letters,
        when it was tried as often as it may be.

        :raises ClaimLost: see :meth:`ack`. :raises NotClaimed: see there. :raises EtcdError: see there.
        """
        if self._max_tries is None or self.tries < self._max_tries:
            await self._settle()
            return
        letter = Put(self._dead_key, encode(self.value, self.tries))
        nacked = await self._settle(Txn((self._item_untouched,), (Delete(self._item_key), letter)))
        try:
            found = await self.etcd.get(self._dead_key)
        except EtcdError as error:
            emit(Events.CONNECTION_TROUBLE, reason=error)
        else:
            if found is not None and found.mod_revision == nacked.revision:
                emit(Events.ITEM_BURIED, key=self._dead_key, tries=self.tries)

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
                    await self._settle(Txn((self._item_untouched,), (before,)))
            except EtcdError as error:
                emit(Events.CONNECTION_TROUBLE, reason=error)

    @property
    def _item_untouched(self) -> Compare:
        """Nobody has deleted or changed the item by hand since it was claimed: what is written would bring it back."""
        return modified_at(self._item_key, self.create_revision)

    async def _settle(self, *ops: Op) -> Committed:
        """End the claim, and do ``ops`` with it."""
        if self._settled:
            raise NotClaimed(f"item {self.id}")
        self._settled = True
        self._confirm_no_more()
        try:
            committed = await self._receipts.commit(
                [self.fence], [Delete(self.key), *ops], if_cancelled=self._cancelled
            )
        except SessionLost:
            self.end("the session is over")
            raise self.lost() from None
        except EtcdError:
            await self._cancelled(None)
            raise
        if not committed.done:
            self.end("its key is gone: it was deleted, or the lease ran out")
            raise self.lost()
        return committed

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
