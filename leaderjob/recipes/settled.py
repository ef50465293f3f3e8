"""Writes whose outcome is known: sent until they are answered, or refused for want of a lease."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from leaderjob.clock import boottime
from leaderjob.etcd import (
    AmbiguousWrite,
    Compare,
    Etcd,
    EtcdError,
    EtcdUnavailable,
    Get,
    NoSpace,
    Op,
    RequestRefused,
    TxnResult,
)
from leaderjob.etcd.full import in_doubt, look_after_no_space
from leaderjob.recipes.session import Session

PATIENCE_S = 10.0
_PAUSE_S = 0.1


class Answer(NamedTuple):
    """What came of it. ``unanswered``: an earlier try was not answered, or found no room, which does not tell; so what
    failed now may have been done then."""

    result: TxnResult
    unanswered: AmbiguousWrite | None


async def until_answered(
    etcd: Etcd,
    compares: Sequence[Compare],
    success: Sequence[Op],
    failure: Sequence[Get],
    *,
    patience_s: float | None = None,
) -> Answer:
    """Send one transaction, and send it again where it got no answer.

    Safe only where ``compares`` let at most one of the tries be done, and none once anything was written that
    supersedes it: a compare on the ``mod_revision`` of a key that is never deleted, and that ``success`` writes, does
    that; so does the absence of a key that ``success`` creates, together with a compare on a key that is never deleted
    and is written by all who delete the former.

    :param compares: each of one key, with ``=``. :param failure: what to read where they do not hold.
    :param patience_s: after so many seconds without an answer it is given up; None: :data:`PATIENCE_S`.
    :raises AmbiguousWrite: it was given up: it may be done, not done, or be done later.
    :raises EtcdError: nothing was written.
    """
    give_up_at = boottime() + (PATIENCE_S if patience_s is None else patience_s)
    unanswered: AmbiguousWrite | None = None
    while True:
        try:
            return Answer(await etcd.txn(compares, success, failure), unanswered)
        except AmbiguousWrite as error:
            unanswered = error
        except EtcdUnavailable:
            if unanswered is None:
                raise
        except NoSpace:
            changed = await look_after_no_space(etcd, compares, failure)
            if changed is not None:
                return Answer(changed, unanswered or in_doubt(etcd))
            if unanswered is None:
                raise
        except EtcdError as error:
            if unanswered is None:
                raise
            raise unanswered from error
        if boottime() >= give_up_at:
            raise unanswered
        await asyncio.sleep(_PAUSE_S)


@contextmanager
def on_lease(session: Session) -> Iterator[None]:
    """A write on the lease of a session, inside. :raises SessionLost: etcd does not know that lease any more."""
    try:
        yield
    except RequestRefused as refused:
        if "lease not found" not in str(refused):
            raise
        session.lose("etcd does not know its lease any more: it ran out or was revoked")
        session.check()
