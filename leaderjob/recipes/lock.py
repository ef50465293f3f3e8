"""Locks that one holds at a time, or some: all on a session, fair, and with a fencing token."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

from leaderjob.recipes.arguments import check_count, check_wait_s
from leaderjob.recipes.line import Held, Line
from leaderjob.recipes.permits import Permits
from leaderjob.recipes.place import place
from leaderjob.recipes.session import Session
from leaderjob.recipes.while_held import while_held


class _Acquirable:
    """Something to be held, once at a time by each session: by :meth:`acquire` and :meth:`release`, or as a context
    manager::

        async with Lock(session, "reports") as held:
            await write_reports(fencing_token=held.token)

    What is inside is cancelled as soon as it is not certainly held any more, and :class:`HoldLost` is raised.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._entered: AbstractAsyncContextManager[Held] | None = None

    async def acquire(self, *, wait_s: float | None = None) -> Held:
        """Wait for it; first come, first served.

        Fails or is cancelled: nothing is left behind. Where that cannot be made sure the session is lost, so that the
        lease takes the key along.

        :param wait_s: for how long at most; 0: only try; None: for ever.
        :raises NotAcquired: others held it for so long. :raises AlreadyHeld: the session holds or awaits it.
        :raises SessionLost: the lease is gone. :raises HoldLost: the key was deleted while it waited.
        :raises SettingsError: a time that is none, or negative. :raises EtcdError: etcd does not answer, or refuses.
        """
        check_wait_s(wait_s)
        return await self._line.acquire(wait_s=wait_s)

    async def release(self, held: Held) -> None:
        """Let the next one have it; only when all that was done under it has stopped. What was lost may be released.

        Where etcd does not answer in time the session is lost, and its lease takes the key along.

        :raises NotHeld: it was released already, or another one acquired it.
        """
        await self._line.release(held)

    @asynccontextmanager
    async def holding(self, *, wait_s: float | None = None) -> AsyncIterator[Held]:
        """``async with lock.holding(wait_s=10) as held``: as ``async with lock``, with the bounds of :meth:`acquire`.

        :raises: what :meth:`acquire` does; and :class:`HoldLost`.
        """
        held = await self.acquire(wait_s=wait_s)
        try:
            async with while_held(held):
                yield held
        finally:
            await self.release(held)

    async def __aenter__(self) -> Held:
        """:raises: see :meth:`acquire`."""
        entered = self.holding()
        held = await entered.__aenter__()
        self._entered = entered
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        entered, self._entered = self._entered, None
        return entered is not None and bool(await entered.__aexit__(kind, error, trace))


class Lock(_Acquirable):
    """One session at a time holds it. Key-compatible with ``etcdctl lock`` (on ``/leaderjob/NAMESPACE/locks/NAME``).

    Never re-entrant: who takes it twice by the same session gets :class:`AlreadyHeld`, and no deadlock.

    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.
    """

    def __init__(self, session: Session, name: str, *, namespace: str = "default") -> None:
        super().__init__(Line(session, place("locks", name, namespace), what=f"lock {name}"))


class Semaphore(_Acquirable):
    """So many sessions at a time hold a permit of it.

    :param permits: how many. Everybody has to say the same number, or :meth:`acquire` raises :class:`PermitsDiffer`; it
        can be changed while nobody holds a permit or waits for one.
    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.
    :raises SettingsError: fewer than one permit, or no whole number.
    """

    def __init__(self, session: Session, name: str, permits: int, *, namespace: str = "default") -> None:
        check_count(f"semaphore {name}", permits, "permits")
        root = place("semaphores", name, namespace)
        standing = "holders/"
        super().__init__(
            Line(
                session,
                root,
                what=f"semaphore {name}",
                own=standing,
                blocking=standing,
                room=permits,
                permits=Permits(session.etcd, name, permits, key=f"{root}permits", standing=root + standing),
            )
        )


class ReadWriteLock:
    """Many readers at a time, or one writer. Fair: who comes after a waiting writer waits for it, readers too.

    ::

        rates = ReadWriteLock(session, "rates")
        async with rates.reading():
            ...

    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.
    """

    def __init__(self, session: Session, name: str, *, namespace: str = "default") -> None:
        self._session = session
        self._root = place("rwlocks", name, namespace)
        self._what = f"read-write lock {name}"

    def reading(self) -> "_Acquirable":
        """To be held together with other readers."""
        line = Line(self._session, self._root, what=self._what, own="readers/", blocking="writers/")
        return _Acquirable(line)

    def writing(self) -> "_Acquirable":
        """To be held alone."""
        return _Acquirable(Line(self._session, self._root, what=self._what, own="writers/"))
