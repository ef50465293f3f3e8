"""An entry in the registry that is there for as long as its process wants it, whatever becomes of leases.

Other than a lock, nothing is at stake when it is lost: a new lease is asked for, and the entry is made again.
"""

import asyncio
from contextlib import aclosing
from types import TracebackType
from typing import Self

from leaderjob.etcd import Etcd, EtcdError, HistoryWentBack, follow
from leaderjob.recipes.entry import Entry
from leaderjob.recipes.errors import AlreadyRegistered, NotRegistered, SessionLost
from leaderjob.recipes.session import Session, Timing
from leaderjob.telemetry.events import Events, emit

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class Registration:
    """See :meth:`leaderjob.recipes.Registry.register`; to be entered with ``async with``."""

    def __init__(self, etcd: Etcd, prefix: str, address: str, value: bytes, timing: Timing) -> None:
        self.address = address
        self.key: str | None = None
        """Of the entry, while it is there as far as is known."""
        self._etcd = etcd
        self._prefix = prefix
        self._value = value
        self._timing = timing
        self._registered = asyncio.Event()
        self._ended = asyncio.Event()
        self._went_back: HistoryWentBack | None = None
        self._left = False
        self._task: asyncio.Task[None] | None = None

    async def wait_registered(self) -> str:
        """Wait until the entry is there (again); returns its key. :raises HistoryWentBack: see :meth:`wait_ended`.
        :raises NotRegistered: its ``async with`` was left."""
        while self.key is None:
            if self._went_back is not None:
                raise self._went_back
            self._check_not_left()
            await self._registered.wait()
        return self.key

    async def wait_ended(self) -> HistoryWentBack:
        """Wait until it is given up, which it is for one reason only; returns that: the store went back, and the client
        sends it nothing more. A new client can register again. :raises NotRegistered: its ``async with`` was left."""
        while self._went_back is None:
            self._check_not_left()
            await self._ended.wait()
        return self._went_back

    async def __aenter__(self) -> Self:
        """Returns once it is registered. :raises EtcdError: etcd does not answer, or refuses; nothing is left then.
        :raises AlreadyRegistered: this was entered already."""
        if self._task is not None:
            raise AlreadyRegistered(self.address)
        self._went_back, self._left = None, False
        for event in (self._registered, self._ended):
            event.clear()
        self._task = asyncio.create_task(self._keep(), name=f"registration of {self.address}")
        registered = asyncio.create_task(self._registered.wait())
        try:
            await asyncio.wait([self._task, registered], return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
        except BaseException:
            await self._end()
            raise
        finally:
            registered.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._left = True
            task.cancel()
            try:
                await asyncio.wait([task])
            finally:
                self._wake()

    def _check_not_left(self) -> None:
        if self._left:
            raise NotRegistered(self.address)

    def _wake(self) -> None:
        for event in (self._registered, self._ended):
            event.set()

    async def _keep(self) -> None:
        """Until it is cancelled, or given up. :raises EtcdError: it could not even be registered once."""
        was_there = in_trouble = False
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with await Session.open(self._etcd, self._timing) as session:
                    entry = Entry(self._etcd, session, self._prefix)
                    await entry.enter(self._value)
                    was_there, in_trouble, pause_s = True, False, _FIRST_PAUSE_S
                    await self._until_gone(session, entry)
            except (EtcdError, SessionLost) as error:
                if not was_there:
                    raise
                if isinstance(error, HistoryWentBack):
                    self._give_up(error)
                    return
                if not in_trouble:
                    emit(Events.CONNECTION_TROUBLE, reason=error)
                in_trouble = True
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _give_up(self, error: HistoryWentBack) -> None:
        emit(Events.REGISTRATION_ENDED, address=self.address, reason=error)
        self._went_back = error
        self._wake()

    async def _until_gone(self, session: Session, entry: Entry) -> None:
        async def confirm(sent_at: float) -> None:
            # A member whose disk stalls acknowledges keepalives of leases that the quorum has ended.
            found = await self._etcd.get(entry.key)
            if found is None or found.create_revision != entry.create_revision:
                session.lose("its key is gone")

        self.key = entry.key
        self._registered.set()
        emit(Events.INSTANCE_REGISTERED, key=entry.key, address=self.address)
        session.confirmations.append(confirm)
        deleted = asyncio.create_task(self._deleted(entry))
        lost = asyncio.create_task(session.wait_lost())
        try:
            done, _ = await asyncio.wait([deleted, lost], return_when=asyncio.FIRST_COMPLETED)
            reason = lost.result() if lost in done else deleted.result()
            emit(Events.INSTANCE_LOST, key=entry.key, address=self.address, reason=reason)
        finally:
            self.key = None
            self._registered.clear()
            for task in (deleted, lost):
                task.cancel()
            await asyncio.gather(deleted, lost, return_exceptions=True)

    async def _deleted(self, entry: Entry) -> str:
        """Return when the key is gone."""
        listed = False
        async with aclosing(follow(self._etcd, entry.key)) as batches:
            async for batch in batches:
                last = [event.now for event in batch.events if event.key == entry.key]
                there = last[-1] if last else None
                if last and (there is None or there.create_revision != entry.create_revision):
                    break
                if not last and batch.listed and not listed:
                    break
                listed = True
        return "its key was deleted"
