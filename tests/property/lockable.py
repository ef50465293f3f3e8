"""Workers that want one lock, read-write lock or semaphore, each behind a proxy of its own, and who holds it by its
own account."""

import asyncio
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from leaderjob.etcd import Etcd, EtcdError
from leaderjob.recipes import Held, HoldLost, Lock, ReadWriteLock, Semaphore, Session, SessionLost, while_held
from leaderjob.recipes.lock import _Acquirable
from tests.support.candidates import SHORT
from tests.support.cuttable import Cuttable

PERMITS = 2
FOLDERS = {"lock": "locks/x/", "semaphore": "semaphores/x/holders/", "rwlock": "rwlocks/x/"}
_AT_REST_WITHIN_S = 8 * SHORT.ttl_s


def lock_of(kind: str, session: Session, namespace: str, *, writes: bool) -> _Acquirable:
    if kind == "lock":
        return Lock(session, "x", namespace=namespace)
    if kind == "semaphore":
        return Semaphore(session, "x", PERMITS, namespace=namespace)
    lock = ReadWriteLock(session, "x", namespace=namespace)
    return lock.writing() if writes else lock.reading()


class Worker:
    """Holds it whenever it can while it is wanted to; several times by one session, as long as that lives."""

    def __init__(self, place: "Workplace", client: Etcd, proxy: Cuttable, *, writes: bool) -> None:
        self.client = client
        self.proxy = proxy
        self.writes = writes
        self.held: Held | None = None
        self.session: Session | None = None
        self._place = place
        self._yields = asyncio.Event()
        self._again = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """A key of it stands, at rest."""
        return self._task is not None and self._again.is_set()

    @property
    def holds(self) -> bool:
        """By its own account; and nobody has taken it away by hand."""
        held = self.held
        return held is not None and held.trusted and held.key not in self._place.taken_away

    def work(self) -> None:
        self._again.set()
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def hand_over(self) -> None:
        """Release it, if it holds it, and stand in line again."""
        self._yields.set()

    def give_up(self) -> None:
        """Wait for it no longer, if it does, and stay, with its session."""
        if self._patience is not None:
            self._again.clear()
            self._patience.reschedule(0.0)

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()

    async def _work(self) -> None:
        while True:
            try:
                async with await Session.open(self.client, SHORT) as self.session:
                    while True:
                        await self._hold(self.session)
            except (EtcdError, HoldLost, SessionLost):
                await asyncio.sleep(0.05)

    async def _hold(self, session: Session) -> None:
        lock = lock_of(self._place.kind, session, self._place.namespace, writes=self.writes)
        await self._again.wait()
        try:
            async with asyncio.timeout(None) as self._patience:
                held = await lock.acquire()
        except TimeoutError:
            return
        finally:
            self._patience = None
        self._again.set()  # it came in just before it was to give up
        try:
            async with while_held(held):
                self._yields.clear()
                self._place.enters(self, held)
                await self._yields.wait()
        finally:
            self.held = None
            await lock.release(held)


class Workplace:
    """All workers, and an operator that nothing stands in the way of."""

    def __init__(self, kind: str, endpoint: str, namespace: str, writes: list[bool]) -> None:
        self.kind = kind
        self.endpoint = endpoint
        self.namespace = namespace
        self.workers: list[Worker] = []
        self.taken_away: set[str] = set()
        """The keys of those whose lease was revoked: they learn of it with their next keepalive."""
        self.wrong: list[str] = []
        self._writes = writes
        self._tokens: list[int] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        self.operator = await enter(Etcd([self.endpoint]))
        for writes in self._writes:
            proxy = await enter(Cuttable(self.endpoint))
            client = await enter(Etcd([proxy.endpoint], call_timeout_s=0.3))
            self.workers.append(Worker(self, client, proxy, writes=writes and self.kind == "rwlock"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            await worker.stop()
        await self._stack.aclose()

    def enters(self, worker: Worker, held: Held) -> None:
        worker.held = held
        if held.key in self.taken_away:
            return
        inside = [each for each in self.workers if each.holds]
        if self.kind == "rwlock":
            too_many = len(inside) > 1 and any(each.writes for each in inside)
        else:
            too_many = len(inside) > (PERMITS if self.kind == "semaphore" else 1)
        if too_many:
            self.wrong.append(
                f"hold it at once: {[(each.held and each.held.token, each.writes) for each in inside]}"
            )
        if held.token in self._tokens:
            self.wrong.append(f"token {held.token} was given twice")
        if self.kind == "lock" and held.token < max(self._tokens, default=0):
            self.wrong.append(f"token {held.token} after {self._tokens}")
        self._tokens.append(held.token)

    async def take_away(self, worker: Worker) -> None:
        """Revoke its lease."""
        session = worker.session
        if session is not None and not session.is_lost:
            prefix = f"/leaderjob/{self.namespace}/"
            keys = [kv.key for kv in (await self.operator.range(prefix)).kvs if kv.lease == session.lease_id]
            self.taken_away.update(keys)
            await self.operator.revoke(session.lease_id)

    async def comes_to_rest(self) -> None:
        """As many hold it as may, and those who want it have one key each, in a line, of which they are the first."""
        prefix = f"/leaderjob/{self.namespace}/{FOLDERS[self.kind]}"
        give_up_at = time.monotonic() + _AT_REST_WITHIN_S
        while True:
            standing = (await self.operator.range(prefix)).kvs
            leases = sorted(each.session.lease_id for each in self.workers if each.wanted and each.session)
            holding = {each.held.key for each in self.workers if each.holds and each.held}
            first = [kv.key for kv in standing]
            if self.kind == "rwlock":
                writers = [n for n, key in enumerate(first) if "/writers/" in key]
                first = first[: max(1, writers[0])] if writers else first
            else:
                first = first[: PERMITS if self.kind == "semaphore" else 1]
            wanted = sum(each.wanted for each in self.workers)
            if (
                len(standing) == wanted
                and sorted(kv.lease for kv in standing) == leases
                and holding == set(first)
            ):
                return
            assert time.monotonic() < give_up_at, f"{wanted} want it; {standing} stand, {holding} hold it"
            await asyncio.sleep(0.02)
