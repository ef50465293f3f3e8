"""A session: a lease that is kept alive, and what may be concluded from that.

An acknowledged keepalive says that *some* member still knows the lease. For a candidate that is enough.
For a leader it is not: a member whose disk stalls goes on acknowledging while the quorum has deleted
the key. So a leader registers a confirmation, a linearizable read of its own key, begun after the
acknowledgement; see ``election.py``. Time is always counted from when a keepalive was SENT.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from leaderjob.clock import boottime
from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd, EtcdError, EtcdUnavailable, HistoryWentBack, LeaseNotFound
from leaderjob.recipes.arguments import is_number
from leaderjob.recipes.errors import SessionLost
from leaderjob.telemetry.events import Events, emit

SAFE_TTL_S = 5.0
"""Below this, leadership is not promised to outlast the death of an etcd leader."""

_RETRY_PAUSE_S = 0.1
_REVOKE_TIMEOUT_S = 1.0

Acknowledged = Callable[[float], Awaitable[None]]
"""Called after each acknowledged keepalive, with the boot time in seconds at which it was sent."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How a session keeps time, in seconds. :raises SettingsError: the values do not fit each other.

    :param ttl_s: how long the lease outlives the last keepalive; whole seconds.
    :param margin_s: how much earlier than the lease our own trust ends.
    :param keepalive_s: the pause between keepalives; a fifth of the TTL by default.
    """

    ttl_s: float = 10.0
    margin_s: float = 2.0
    keepalive_s: float | None = None

    def __post_init__(self) -> None:
        given = {"ttl": self.ttl_s, "margin": self.margin_s}
        if self.keepalive_s is not None:
            given["keepalive"] = self.keepalive_s
        for what, seconds in given.items():
            if not (is_number(seconds) and math.isfinite(seconds)):
                raise SettingsError(f"{what} {seconds!r}: a number of seconds")
        if self.ttl_s != int(self.ttl_s) or self.ttl_s < 2:
            raise SettingsError(f"ttl {self.ttl_s:g} s: etcd takes whole seconds, at least 2")
        if not 0 < self.margin_s < self.ttl_s / 2:
            raise SettingsError(
                f"margin {self.margin_s:g} s does not fit a TTL of {self.ttl_s:g} s: it must be above 0 and below half of it"
            )
        if self.keepalive_s is not None and not 0 < self.keepalive_s <= self.ttl_s / 3:
            raise SettingsError(
                f"keepalive {self.keepalive_s:g} s does not fit a TTL of {self.ttl_s:g} s: at most a third of it"
            )


class Session:
    """A lease, kept alive until it is closed or lost. ``async with await Session.open(...) as session``."""

    def __init__(self, etcd: Etcd, lease_id: int, timing: Timing, granted_ttl_s: int, sent_at: float) -> None:
        self.etcd = etcd
        self.lease_id = lease_id
        self.ttl_s = float(granted_ttl_s)
        self.margin_s = timing.margin_s
        self.keepalive_s = min(timing.keepalive_s or self.ttl_s / 5, self.ttl_s / 3)
        self.acknowledged_at = sent_at
        """Boot time at which the last acknowledged keepalive (or the grant) was sent."""
        self.confirmations: list[Acknowledged] = []
        """What makes sure, after each acknowledged keepalive, that the keys are there which it is to keep."""
        self.term: int | None = None
        """The token of the term that it carries, once it has won one; for those who read of its troubles."""
        self.stands_in: str | None = None
        """The election, by its prefix, in which its key stands."""
        self.stands_for: set[str] = set()
        """The lines, by their prefixes, in which its keys stand."""
        self.is_abandoned = False
        """Nothing on its lease is deleted: all of it goes when that runs out."""
        self._lost = asyncio.Event()
        self._reason = ""
        self._lease_is_gone = False
        self._beat_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._beside: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, etcd: Etcd, timing: Timing | None = None) -> Self:
        """Ask for a lease. :raises EtcdError: none was granted."""
        timing = timing or Timing()
        sent_at = boottime()
        lease_id, granted_ttl_s = await etcd.grant(int(timing.ttl_s))
        emit(Events.SESSION_OPENED, lease=f"{lease_id:x}", ttl_s=granted_ttl_s)
        if granted_ttl_s < SAFE_TTL_S:
            emit(Events.SESSION_SHORT_TTL, ttl_s=granted_ttl_s, safe_ttl_s=SAFE_TTL_S)
        return cls(etcd, lease_id, timing, granted_ttl_s, sent_at)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_alive(), name=f"keepalive {self.lease_id:x}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop the keepalive, then revoke the lease; close only when all work under it has stopped.

        A session that was lost may have a lease that lives on. Where etcd does not answer in time it runs out by
        itself.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        for task in (beside := list(self._beside)):
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        if not self.is_lost:
            self._lose("closed")
        if not self._lease_is_gone and not self.is_abandoned:
            with suppress(EtcdError):
                await self.etcd.revoke(self.lease_id, within_s=_REVOKE_TIMEOUT_S)
                self._lease_is_gone = True

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    async def wait_lost(self) -> str:
        """Wait until the lease is gone; returns why."""
        await self._lost.wait()
        return self._reason

    def check(self) -> None:
        """:raises SessionLost: the lease is gone."""
        if self.is_lost:
            raise SessionLost(f"session {self.lease_id:x} is over: {self._reason}")

    def lose(self, reason: str) -> None:
        """Declare the session over: its keys are known to be gone, or must not be relied on."""
        if not self.is_lost:
            emit(Events.SESSION_LOST, lease=f"{self.lease_id:x}", term=self.term, reason=reason)
            self._lose(reason)

    def abandon(self, reason: str) -> None:
        """Lose it, and leave its lease to run out by itself: nobody else is to have at once what its keys stand for, as
        what was done under them may still go on."""
        self.is_abandoned = True
        self.lose(reason)

    def renew_now(self) -> None:
        """Send the next keepalive at once."""
        self._beat_now.set()

    async def renew(self) -> None:
        """Renew the lease once more, and be as patient with etcd as any other call is.

        :raises SessionLost: it is gone. :raises EtcdError: no answer.
        """
        give_up_at = boottime() + self.etcd.connection.call_timeout_s
        while True:
            sent_at = boottime()
            try:
                await self.etcd.keep_alive(self.lease_id, timeout_s=self._timeout_s)
            except LeaseNotFound as gone:
                self._lease_is_gone = True
                self.lose(str(gone))
            except EtcdUnavailable:
                if boottime() >= give_up_at:
                    raise
                await asyncio.sleep(_RETRY_PAUSE_S)
                continue
            self.check()
            self.acknowledged_at = max(self.acknowledged_at, sent_at)
            return

    def beside(self, tidying: Coroutine[Any, Any, None], name: str) -> None:
        """Have something done that nobody waits for, and that time does too where etcd does not answer."""

        async def tidy() -> None:
            with suppress(EtcdError):
                await tidying

        task = asyncio.create_task(tidy(), name=name)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _lose(self, reason: str) -> None:
        self._reason = reason
        self._lost.set()

    async def _keep_alive(self) -> None:
        failed = False
        while not self.is_lost:
            sent_at = boottime()
            try:
                await self.etcd.keep_alive(self.lease_id, timeout_s=self._timeout_s)
                self.acknowledged_at = max(self.acknowledged_at, sent_at)
                for confirm in tuple(self.confirmations):
                    await confirm(sent_at)
                failed = False
            except LeaseNotFound as gone:
                self._lease_is_gone = True
                self.lose(str(gone))
                return
            except HistoryWentBack as error:
                self.lose(str(error))
                return
            except EtcdError as error:
                if not failed:
                    emit(Events.KEEPALIVE_FAILED, lease=f"{self.lease_id:x}", term=self.term, reason=error)
                failed = True
            pause_s = _RETRY_PAUSE_S if failed else self.keepalive_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._beat_now.wait()
            self._beat_now.clear()

    @property
    def _timeout_s(self) -> float:
        """Of one keepalive: short enough that the next try, elsewhere, comes in time."""
        return min(self.etcd.connection.call_timeout_s, self.ttl_s / 4)
