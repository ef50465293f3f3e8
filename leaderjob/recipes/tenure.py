"""What a session holds by a key of its own, and how long that may be trusted.

Only until the last keepalive that was both acknowledged and CONFIRMED by a linearizable read of the key,
counted from when it was sent, minus a margin: a member whose disk stalls goes on acknowledging keepalives
while the quorum has deleted the key.
"""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress

from leaderjob.clock import boottime
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import Compare, Etcd, created_at
from leaderjob.recipes.session import Session

_CLOCK_CHECK_S = 0.5


class Tenure(ABC):
    """An office, a lock, a permit or a claim, for as long as it lasts. Ends once, for one reason.

    :param key: the session's own. :param create_revision: of that key.
    :param confirmed_at: boot time at which the last keepalive was sent that was acknowledged before the key was
        known to hold.
    """

    def __init__(
        self, etcd: Etcd, session: Session, key: str, create_revision: int, *, confirmed_at: float
    ) -> None:
        self.etcd = etcd
        self.session = session
        self.key = key
        self.create_revision = create_revision
        self.trusted_until = confirmed_at + session.ttl_s - session.margin_s
        """Boot time in seconds. At and after it, nothing is started or written in its name."""
        self._ended = asyncio.Event()
        self._reason = ""

    @property
    def trusted(self) -> bool:
        return not self._ended.is_set() and not self.session.is_lost and boottime() < self.trusted_until

    def check(self) -> None:
        """Call this before every side effect. :raises LeaderjobError: it is over or uncertain."""
        if not self.trusted:
            self.end("the session is over" if self.session.is_lost else "the trust deadline has passed")
            raise self.lost()

    @abstractmethod
    def lost(self) -> LeaderjobError:
        """The error that says so."""

    @property
    def has_ended(self) -> bool:
        """It was lost or given up; it may also be over without that anybody noticed: see :attr:`trusted`."""
        return self._ended.is_set()

    def begin(self) -> None:
        """Have it confirmed after each acknowledged keepalive, until it ends."""
        self.session.confirmations.append(self.confirm)

    def end(self, reason: str) -> None:
        """It is over. The first reason stays."""
        self._confirm_no_more()
        if not self._ended.is_set():
            self._reason = reason
            self._ended.set()

    @property
    def reason(self) -> str:
        """Why it is over; empty while it is not."""
        return self._reason

    async def wait_ended(self) -> str:
        """Wait until it is over, for whatever reason; returns it.

        ``asyncio`` counts on a clock that stops while the machine is suspended, so the deadline is
        looked at again every half second.
        """
        while not self._ended.is_set():
            if self.session.is_lost:
                self.end(f"the session is lost: {await self.session.wait_lost()}")
                break
            if not self.trusted:
                self._tell_trust_lost()
                self.end("the trust deadline has passed: no keepalive was confirmed in time")
                break
            self._tell_risk()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(_CLOCK_CHECK_S, self.trusted_until - boottime()))):
                    await self._ended.wait()
        return self._reason

    async def confirm(self, sent_at: float) -> None:
        """Extend trust after an acknowledged keepalive, if the key is still ours. :raises EtcdError: no answer."""
        found = await self.etcd.get(self.key, urgent=True)
        if self._ended.is_set():
            return  # it was given up meanwhile, and its key may be gone by that
        if found is None or found.create_revision != self.create_revision:
            self._key_is_gone()
            return
        self.trusted_until = max(self.trusted_until, sent_at + self.session.ttl_s - self.session.margin_s)
        self._tell_extended()

    def _confirm_no_more(self) -> None:
        with suppress(ValueError):
            self.session.confirmations.remove(self.confirm)

    def _key_is_gone(self) -> None:
        self.end("its key is gone: it was deleted, or the lease ran out")

    def _tell_extended(self) -> None:  # noqa: B027 - few want to know
        """Somebody may want to know."""

    def _tell_risk(self) -> None:  # noqa: B027 - few want to know
        """Asked for at least twice a second."""

    @abstractmethod
    def _tell_trust_lost(self) -> None:
        """Somebody wants to know."""


class Hold(Tenure):
    """One whose fencing token is the create revision of its key, as it is."""

    @property
    def token(self) -> int:
        """The fencing token: grows with each holder. Hand it to whatever is written to, to refuse older ones."""
        return self.create_revision

    @property
    def fence(self) -> Compare:
        """Add this to a transaction, and it does nothing once somebody else may have it."""
        return created_at(self.key, self.create_revision)
