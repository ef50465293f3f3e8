"""A queue of items in etcd: first in, first out, or the other way round; each item to one consumer at a time.

An item is a key, and its create revision its place. A consumer claims it by a key on its session's lease, so that the
items of a consumer that is gone are free again, where they were. Each try is written into the item when it is claimed,
by the same transaction.
"""

import os
import random
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from leaderjob.clock import boottime
from leaderjob.errors import NotFound
from leaderjob.etcd import (
    AmbiguousWrite,
    Delete,
    Put,
    absent,
    modified_at,
)
from leaderjob.etcd.stream import RawEvent, Watched, until_event
from leaderjob.recipes.arguments import check_count, check_wait_s
from leaderjob.recipes.errors import QueueEmpty
from leaderjob.recipes.queue_claim import Claimed, Claiming
from leaderjob.recipes.queue_head import LOOK_ITEMS
from leaderjob.recipes.queue_item import Item, NoRecord, Waiting, decode, encode, encode_new
from leaderjob.recipes.queue_view import QueueView
from leaderjob.recipes.receipt import Committed, Receipts
from leaderjob.recipes.session import Session
from leaderjob.recipes.waiting import first_of
from leaderjob.telemetry.events import Events, emit

MAX_TRIES = 10

T = TypeVar("T")


class Queue(QueueView):
    """One queue, for one session: a producer, a consumer, or both. What only looks needs no more than a :class:`QueueView`.

    ::

        queue = Queue(session, "mails")
        await queue.put(b"to alice")
        async with queue.claim() as item:
            send(item.value)

    :param newest_first: last in, first out. The order is the consumer's choice: nothing of it is stored.
    :param max_tries: an item that so many consumers were given, and none acked, becomes a dead letter; None: never.
        All consumers of a queue should say the same number.
    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key. :raises SettingsError: less than one try, or no
        whole number.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        *,
        namespace: str = "default",
        newest_first: bool = False,
        max_tries: int | None = MAX_TRIES,
    ) -> None:
        if max_tries is not None:
            check_count(f"queue {name}", max_tries, "tries")
        super().__init__(session.etcd, name, namespace=namespace, newest_first=newest_first)
        self._session = session
        self._max_tries = max_tries
        self._receipts = Receipts(session, self._keys.receipts)

    async def put(self, value: bytes) -> str:
        """Add an item; returns its id. It is there once, also where etcd did not answer at first.

        :raises ValueTooLarge: etcd would not take it; it was not sent. :raises SessionLost: the lease is gone.
        :raises AmbiguousWrite: etcd does not answer: it may be there or not, and is there once at most.
        :raises EtcdError: etcd refuses; it is not there.
        """
        record = encode_new(value)
        while True:
            item_id = secrets.token_hex(8)
            key = self._keys.items + item_id
            committed = await self._receipts.commit([absent(key)], [Put(key, record)])
            if committed.done:
                return item_id

    async def get(self, *, wait_s: float | None = None) -> Item:
        """Take the next item out of the queue: at most once. A consumer that dies now has lost it, and one that is
        cancelled at this very moment too; so bound the wait by ``wait_s``, and not by a timeout around it.

        :param wait_s: for how long to wait at most; 0: only look; None: for ever.
        :raises QueueEmpty: there was none to be had in time. :raises SessionLost: the lease is gone.
        :raises AmbiguousWrite: etcd does not answer: an item may have been taken, and is lost then.
        :raises EtcdError: etcd does not answer, or refuses; nothing was taken.
        """
        return await self._next(self._take, wait_s)

    def claim(self, *, wait_s: float | None = None) -> Claiming:
        """Claim the next item: at least once. ``item = await queue.claim()``, and later ``await item.ack()`` or
        ``await item.nack()``; or ``async with queue.claim() as item:``, which acks at the end, nacks if the block
        raises or is cancelled, and cancels the block when the claim is lost.

        :param wait_s: for how long to wait at most; 0: only look; None: for ever.
        :raises QueueEmpty: there was none to be had in time. :raises SessionLost: the lease is gone.
        :raises ClaimLost: of the block: another consumer may have the item. :raises EtcdError: etcd does not answer,
            or refuses.
        """
        return Claiming(lambda: self._next(self._try_to_claim, wait_s))

    async def requeue(self, item_id: str) -> None:
        """Put a dead letter back: at the end of the queue, with no try counted.

        :raises NotFound: there is no such dead letter. :raises EtcdError: etcd does not answer: it may be done, and
            may be asked for again.
        """
        dead, key = self._keys.dead + item_id, self._keys.items + item_id
        found = await self._etcd.get(dead) if item_id and "/" not in item_id else None
        if found is None:
            raise NotFound(
                f"queue {self.name} has no dead letter {item_id!r}: see 'leaderjob queue dead {self.name}'"
            )
        try:
            value = decode(found, self._keys.dead).value
        except NoRecord as reason:
            raise NotFound(
                f"{dead} is none that a queue has written ({reason}): correct or delete it with etcdctl"
            ) from reason
        # Where it was not done another one did it, which is as good.
        await self._receipts.commit(
            [modified_at(dead, found.mod_revision), absent(key)], [Delete(dead), Put(key, encode(value, 0))]
        )

    async def _next(self, take: Callable[[Waiting], Awaitable[T | None]], wait_s: float | None) -> T:
        """What ``take`` makes of the next item that it gets.

        Who finds that another one was first tries one further back next time: many consumers who begin together soon
        try different items, and one alone takes them strictly in order.
        """
        check_wait_s(wait_s)
        give_up_at = None if wait_s is None else boottime() + wait_s
        lost = 0
        while True:
            self._session.check()
            remembered = self._head.remembered
            look = remembered or await self._head.look()
            if look.waiting:
                choice = look.waiting[random.randrange(min(len(look.waiting), LOOK_ITEMS, 2**lost))]
                if self._max_tries is not None and choice.item.tries >= self._max_tries:
                    await self._bury(choice)
                    continue
                taken = await take(choice)
                if taken is not None:
                    return taken
                self._head.forget()
                if remembered is None:
                    lost = min(lost + 1, LOOK_ITEMS)
                continue
            left_s = self._session.ttl_s if give_up_at is None else give_up_at - boottime()
            if left_s <= 0:
                raise QueueEmpty(f"queue {self.name}", wait_s)
            await self._until_something_comes(look.revision, min(left_s, self._session.ttl_s))

    async def _take(self, waiting: Waiting) -> Item | None:
        committed = await self._receipts.commit(
            [modified_at(waiting.key, waiting.mod_revision), absent(self._keys.claim_of(waiting.item.id))],
            [Delete(waiting.key)],
        )
        if not committed.done:
            return None
        self._head.taken(waiting)
        return waiting.item

    async def _try_to_claim(self, waiting: Waiting) -> Claimed | None:
        session = self._session
        if boottime() >= session.acknowledged_at + session.ttl_s - session.margin_s:
            await session.renew()
        confirms = session.acknowledged_at
        self._head.forget()
        item = Item(waiting.item.id, waiting.item.value, waiting.item.tries + 1)
        key = self._keys.claim_of(item.id)

        def claimed(committed: Committed) -> Claimed:
            return Claimed(
                session,
                self._receipts,
                self._keys,
                item,
                claimed_at=committed.revision,
                confirmed_at=confirms,
                max_tries=self._max_tries,
            )

        async def give_back(committed: Committed | None) -> None:
            if committed is None:
                session.lose(f"it is not known whether item {item.id} is claimed, and it must not be kept")
            elif committed.done:
                await claimed(committed).leave(counts=False)

        try:
            committed = await self._receipts.commit(
                [modified_at(waiting.key, waiting.mod_revision), absent(key)],
                [
                    Put(waiting.key, encode(item.value, item.tries)),
                    Put(key, _CLAIMANT, lease=session.lease_id),
                ],
                if_cancelled=give_back,
            )
        except AmbiguousWrite:
            await give_back(None)
            raise
        return claimed(committed) if committed.done else None

    async def _bury(self, waiting: Waiting) -> None:
        """Its last consumer is gone, and it was tried as often as it may be."""
        dead, item = self._keys.dead + waiting.item.id, waiting.item
        self._head.forget()
        committed = await self._receipts.commit(
            [modified_at(waiting.key, waiting.mod_revision), absent(self._keys.claim_of(item.id))],
            [Delete(waiting.key), Put(dead, encode(item.value, item.tries))],
        )
        if committed.done:
            emit(Events.ITEM_BURIED, key=dead, tries=item.tries)

    async def _until_something_comes(self, revision: int, at_most_s: float) -> None:
        """Return when another look is worth while: an item has come since ``revision``, or a claim has gone."""
        items, claims = self._keys.items, self._keys.claims

        def is_news(event: RawEvent) -> bool:
            if event.kv.key.startswith(claims):
                return event.deleted
            return not event.deleted and event.kv.version == 1

        watched = [Watched(items, prefix=True), Watched(claims, prefix=True)]
        await first_of(
            until_event(self._etcd.connection, watched, after=revision, what=is_news),
            self._session.wait_lost(),
            within_s=at_most_s,
        )


_CLAIMANT = b'{"v": 1, "host": "%s", "pid": %d}' % (socket.gethostname().encode(), os.getpid())
"""Who has an item, for people."""
