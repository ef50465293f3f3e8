"""A term in office: how long it may be trusted, and the fence that its writes carry.

* A term is trusted only until the last keepalive that was both acknowledged and CONFIRMED by a
  linearizable read of the key, counted from when it was sent, minus a margin.
* The fence has two halves: my key is the one that I created, AND nothing in the prefix was created
  before it. The first half alone also holds for a candidate that is still queued.
"""

import asyncio
from contextlib import suppress

from leaderjob.clock import boottime
from leaderjob.etcd import Compare, Etcd, created_at, none_created_before
from leaderjob.model.term import Term
from leaderjob.recipes.errors import TermLost
from leaderjob.recipes.session import Session
from leaderjob.telemetry.events import Events, emit

_CLOCK_CHECK_S = 0.5


def fence(term: Term) -> tuple[Compare, Compare]:
    """The two compares that every write of a term carries."""
    return (
        created_at(term.key, term.create_revision),
        none_created_before(term.prefix, term.create_revision),
    )


class Leadership:
    """A term in office, and how long it may be trusted. Ends once, for one reason.

    :param confirmed_at: boot time at which the last keepalive was sent that was acknowledged before the
        key was read and the election won.
    :param won_revision: of the store when it was won: all that earlier terms wrote lies at or below it.
    :param key_revision: the ``mod_revision`` that the key had then.
    :param may_return: a try to create the key got no answer, so the key may come back once it was deleted.
    :param free_at: boot time at which it became known that the candidate before was gone; None: there was none.
    """

    def __init__(
        self,
        etcd: Etcd,
        session: Session,
        term: Term,
        *,
        confirmed_at: float,
        won_revision: int,
        key_revision: int,
        may_return: bool = False,
        free_at: float | None = None,
    ) -> None:
        self.etcd = etcd
        self.session = session
        self.term = term
        self.trusted_until = confirmed_at + session.ttl_s - session.margin_s
        """Boot time in seconds. At and after it, nothing is started or written in the term's name."""
        self.won_at = boottime()
        self.free_at = free_at
        self.won_revision = won_revision
        self.key_revision = key_revision
        self.may_return = may_return
        self._at_risk = False
        self._ended = asyncio.Event()
        self._reason = ""

    @property
    def trusted(self) -> bool:
        return not self._ended.is_set() and not self.session.is_lost and boottime() < self.trusted_until

    def check(self) -> None:
        """Call this before every side effect. :raises TermLost: the term is over or uncertain."""
        if not self.trusted:
            self.end("the session is over" if self.session.is_lost else "the trust deadline has passed")
            raise TermLost(f"term {self.term.token} is over: {self._reason}")

    def end(self, reason: str) -> None:
        """The term is over. The first reason stays."""
        if not self._ended.is_set():
            self._reason = reason
            self._ended.set()

    @property
    def reason(self) -> str:
        return self._reason

    async def wait_ended(self) -> str:
        """Wait until the term is over, for whatever reason; returns it.

        ``asyncio`` counts on a clock that stops while the machine is suspended, so the deadline is
        looked at again every half second.
        """
        while not self._ended.is_set():
            if self.session.is_lost:
                self.end(f"the session is lost: {await self.session.wait_lost()}")
                break
            if not self.trusted:
                emit(Events.TRUST_LOST, term=self.term.token)
                self.end("the trust deadline has passed: no keepalive was confirmed in time")
                break
            self._warn()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(_CLOCK_CHECK_S, self.trusted_until - boottime()))):
                    await self._ended.wait()
        return self._reason

    async def confirm(self, sent_at: float) -> None:
        """Extend trust after an acknowledged keepalive, if the key is still ours. :raises EtcdError: no answer."""
        found = await self.etcd.get(self.term.key)
        if found is None or found.create_revision != self.term.create_revision:
            self.end("the election key is gone: it was deleted, or the lease ran out")
            self.session.lose(self._reason)
            return
        self.trusted_until = max(self.trusted_until, sent_at + self.session.ttl_s - self.session.margin_s)
        emit(
            Events.TRUST_EXTENDED,
            term=self.term.token,
            left_s=round(self.trusted_until - boottime(), 3),
            trusted_until=self.trusted_until,
        )
        if self._at_risk and not self._is_at_risk:
            self._at_risk = False
            emit(Events.TRUST_RESTORED, term=self.term.token)

    @property
    def _is_at_risk(self) -> bool:
        """Whether less than half of what a confirmed keepalive gives is left: several in a row are missing."""
        return self.trusted_until - boottime() < (self.session.ttl_s - self.session.margin_s) / 2

    def _warn(self) -> None:
        if self._is_at_risk and not self._at_risk:
            self._at_risk = True
            left_s = round(self.trusted_until - boottime(), 1)
            emit(Events.TRUST_AT_RISK, term=self.term.token, left_s=left_s)
