"""A term in office: how long it may be trusted, and the fence that its writes carry.

The fence has two halves: my key is the one that I created, AND nothing in the prefix was created before it.
The first half alone also holds for a candidate that is still queued.
"""

from leaderjob.clock import boottime
from leaderjob.etcd import Compare, Etcd, created_at, none_created_before
from leaderjob.model.term import Term
from leaderjob.recipes.errors import TermLost
from leaderjob.recipes.session import Session
from leaderjob.recipes.tenure import Tenure
from leaderjob.telemetry.events import Events, emit


def fence(term: Term) -> tuple[Compare, Compare]:
    """The two compares that every write of a term carries."""
    return (
        created_at(term.key, term.create_revision),
        none_created_before(term.prefix, term.create_revision),
    )


class Leadership(Tenure):
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
        super().__init__(etcd, session, term.key, term.create_revision, confirmed_at=confirmed_at)
        self.term = term
        self.won_at = boottime()
        self.free_at = free_at
        self.won_revision = won_revision
        self.key_revision = key_revision
        self.may_return = may_return
        self._at_risk = False

    def lost(self) -> TermLost:
        return TermLost(f"term {self.term.token} is over: {self.reason}")

    def _key_is_gone(self) -> None:
        self.end("the election key is gone: it was deleted, or the lease ran out")
        self.session.lose(self.reason)

    def _tell_extended(self) -> None:
        emit(
            Events.TRUST_EXTENDED,
            term=self.term.token,
            left_s=round(self.trusted_until - boottime(), 3),
            trusted_until=self.trusted_until,
        )
        if self._at_risk and not self._is_at_risk:
            self._at_risk = False
            emit(Events.TRUST_RESTORED, term=self.term.token)

    def _tell_risk(self) -> None:
        if self._is_at_risk and not self._at_risk:
            self._at_risk = True
            left_s = round(self.trusted_until - boottime(), 1)
            emit(Events.TRUST_AT_RISK, term=self.term.token, left_s=left_s)

    def _tell_trust_lost(self) -> None:
        emit(Events.TRUST_LOST, term=self.term.token)

    @property
    def _is_at_risk(self) -> bool:
        """Whether less than half of what a confirmed keepalive gives is left: several in a row are missing."""
        return self.trusted_until - boottime() < (self.session.ttl_s - self.session.margin_s) / 2
