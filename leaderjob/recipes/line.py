"""First come, first served: a session stands in a line, and holds what it stands for when few enough are before it.

The classic recipe (etcd ``client/v3/concurrency/mutex.go``), other than there with a trust deadline, and with the
first look in the transaction that takes the place: what is free costs one round trip.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from leaderjob.clock import boottime
from leaderjob.etcd import EtcdError, Get, KeyValue, created_at
from leaderjob.etcd.stream import Watched, until_event
from leaderjob.recipes.entry import Entry
from leaderjob.recipes.errors import AlreadyHeld, HoldLost, NotAcquired, NotHeld
from leaderjob.recipes.own_key import delete_own
from leaderjob.recipes.permits import Permits
from leaderjob.recipes.session import Session
from leaderjob.recipes.tenure import Hold
from leaderjob.recipes.waiting import first_of
from leaderjob.telemetry.events import Events, emit

_RELEASE_TIMEOUT_S = 1.0


class Held(Hold):
    """What a place in a line has come to: a lock, or a permit. Ends once, for one reason.

    :param what: it is, for messages: ``lock reports``.
    """

    def __init__(self, session: Session, entry: Entry, *, confirmed_at: float, what: str) -> None:
        super().__init__(session.etcd, session, entry.key, entry.create_revision, confirmed_at=confirmed_at)
        self.may_return = entry.may_return
        self.released = False
        self._what = what

    def lost(self) -> HoldLost:
        return HoldLost(f"{self._what} (token {self.token}) is not held any more: {self.reason}")

    def _tell_trust_lost(self) -> None:
        emit(Events.HOLD_LOST, key=self.key, token=self.token, reason="no keepalive was confirmed in time")

    def _key_is_gone(self) -> None:
        if not self.has_ended:
            super()._key_is_gone()
            emit(Events.HOLD_LOST, key=self.key, token=self.token, reason=self.reason)


class Look(NamedTuple):
    """Who blocks a place, the latest first and at most one more than may; at which revision; and the boot time
    at which a keepalive was sent that it confirms."""

    before: Sequence[KeyValue]
    revision: int
    confirms: float


class Line:
    """One line, for one session.

    :param root: the prefix of all keys of the line, with a trailing slash.
    :param what: it is for, in messages: ``lock reports``.
    :param own: below which part of the root the session's key goes. :param blocking: below which part those are that
        it has to wait for, if they were created earlier.
    :param room: how many may hold at a time. :param permits: how all of them agree on that.
    """

    def __init__(
        self,
        session: Session,
        root: str,
        *,
        what: str,
        own: str = "",
        blocking: str = "",
        room: int = 1,
        permits: Permits | None = None,
    ) -> None:
        self.session = session
        self.what = what
        self._root = root
        self._own = root + own
        self._blocking = root + blocking
        self._room = room
        self._permits = permits
        self._told_of = ""

    async def acquire(self, value: bytes = b"", *, wait_s: float | None = None) -> Held:
        """Stand in the line until it is this one's turn. What fails or is cancelled leaves no key behind; where it
        cannot delete it the session is lost, so that the lease takes it along.

        :param wait_s: for how long at most; 0: only try; None: for ever.
        :raises NotAcquired: it was not this one's turn in time. :raises AlreadyHeld: the session holds or awaits it.
        :raises HoldLost: the key was deleted while it waited. :raises SessionLost: the lease is gone.
        :raises PermitsDiffer: others go by another number of permits.
        :raises EtcdError: etcd does not answer, or refuses.
        """
        session = self.session
        session.check()
        if self._root in session.stands_for:
            raise AlreadyHeld(self.what)
        entry = Entry(session.etcd, session, self._own)
        session.stands_for.add(self._root)
        try:
            held = await self._take(entry, value, wait_s)
        except BaseException:
            if await entry.withdraw():
                session.stands_for.discard(self._root)
            raise
        held.begin()
        return held

    async def release(self, held: Held) -> None:
        """Let the next one have it; only when all that was done under it has stopped. What was lost may be released.

        Where etcd does not answer in time the session is lost, and its lease takes the key with it; as it does where the
        session was abandoned.

        :raises NotHeld: it was released already, or another one acquired it.
        """
        session = self.session
        if held.session is not session or held.released or not held.key.startswith(self._own):
            raise NotHeld(self.what)
        held.released = True
        held.end("it was released")
        if session.is_abandoned:
            return
        released = False
        deleting = asyncio.ensure_future(
            delete_own(session.etcd, held.key, held.create_revision, within_s=_RELEASE_TIMEOUT_S)
        )
        try:
            try:
                await asyncio.shield(deleting)
            except (
                asyncio.CancelledError
            ):  # it takes a second at most, and the session need not be lost for it
                await asyncio.wait([deleting])
                released = deleting.exception() is None and not held.may_return
                raise
            released = not held.may_return
        except EtcdError as error:
            emit(Events.CONNECTION_TROUBLE, reason=error)
        finally:
            deleting.cancel()
            if released:
                session.stands_for.discard(self._root)
            else:
                session.lose("its key could not be deleted for good, and it must not be kept alive")

    async def _take(self, entry: Entry, value: bytes, wait_s: float | None) -> Held:
        try:
            async with asyncio.timeout(wait_s or None) as limit:
                return await self._wait_for_turn(entry, value, tries=wait_s == 0)
        except TimeoutError:
            if not limit.expired():
                raise
            raise NotAcquired(self.what, wait_s) from None

    async def _wait_for_turn(self, entry: Entry, value: bytes, *, tries: bool) -> Held:
        look = await self._first_look(entry, value)
        while not (len(look.before) < self._room and self._is_fresh(look.confirms)):
            if len(look.before) >= self._room:
                if tries:
                    raise NotAcquired(self.what, 0)
                await self._until_one_goes(entry, look)
            look = await self._look(entry)
        return Held(self.session, entry, confirmed_at=look.confirms, what=self.what)

    async def _first_look(self, entry: Entry, value: bytes) -> Look:
        confirms = await self._acknowledged()
        before = Get(self._blocking, prefix=True, newest=self._room + 1)
        seen = None
        while seen is None:
            provided = () if self._permits is None else (self._permits.agreed,)
            seen = await entry.enter(value, [before], provided=provided)
            if seen is None and self._permits is not None:
                await self._permits.agree()
        if not seen:
            return await self._look(entry)
        earlier = [kv for kv in seen[0].kvs if kv.create_revision < entry.create_revision]
        return Look(earlier, entry.create_revision, confirms)

    async def _look(self, entry: Entry) -> Look:
        """:raises HoldLost: the key is gone."""
        confirms = await self._acknowledged()
        before = Get(self._blocking, prefix=True, newest=self._room, created_before=entry.create_revision)
        mine = created_at(entry.key, entry.create_revision)
        result = await self.session.etcd.txn([mine], [before], repeatable=True)
        if not result.succeeded:
            self.session.check()
            raise HoldLost(f"the place for {self.what} is lost: its key was deleted while it waited")
        return Look(result.range(0).kvs, result.revision, confirms)

    async def _acknowledged(self) -> float:
        """The boot time at which a keepalive was sent that is acknowledged, and recent enough to hold on to."""
        session = self.session
        session.check()
        if not self._is_fresh(session.acknowledged_at):
            await session.renew()
        return session.acknowledged_at

    def _is_fresh(self, sent_at: float) -> bool:
        return boottime() < sent_at + self.session.ttl_s - self.session.margin_s

    async def _until_one_goes(self, entry: Entry, look: Look) -> None:
        """Return when another look is worth while. Where one at a time holds this wakes one waiter, and not all."""
        one = self._room == 1
        self._tell_of_leaseless(look.before)
        ahead = Watched(look.before[0].key) if one else Watched(self._blocking, prefix=True)
        session = self.session
        await first_of(
            until_event(session.etcd.connection, [ahead, Watched(entry.key)], after=look.revision),
            session.wait_lost(),
            within_s=session.ttl_s,  # a watch can lag without bound: look again now and then
        )

    def _tell_of_leaseless(self, before: Sequence[KeyValue]) -> None:
        """A key without a lease never goes by itself. Deleting it is not for us: somebody may work under it."""
        for kv in before:
            if not kv.lease and kv.key != self._told_of:
                self._told_of = kv.key
                emit(Events.LOCK_BLOCKED, key=kv.key, create_revision=kv.create_revision)
