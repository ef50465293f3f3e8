"""One candidate's way to office: it enters the queue, waits for the one before it, and claims.

What this does differently from etcd's own recipe (etcd ``client/v3/concurrency/election.go``), and why:

* A win is declared only by a transaction that shows the candidate's own key, and none before it. etcd's Go
  recipe looks at nothing but the deletion of the key before, and can report a leadership whose lease is gone.
* That transaction, the claim, also proclaims: who comes to office is seen in it one round trip earlier.
* With a witness the claim can be laid over a dead predecessor: if that one's key is first in line, and the own
  key is there, it deletes that one's key, wins and proclaims at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from leaderjob.clock import boottime
from leaderjob.etcd import (
    Compare,
    Delete,
    Etcd,
    Get,
    KeyValue,
    NoSpace,
    Op,
    Put,
    TxnResult,
    created_at,
    modified_at,
    none_created_before,
)
from leaderjob.etcd.stream import Watched, until_event
from leaderjob.model.term import Term
from leaderjob.recipes.entry import Entry
from leaderjob.recipes.errors import CampaignLost
from leaderjob.recipes.leadership import Leadership
from leaderjob.recipes.session import Session
from leaderjob.telemetry.events import Events, emit

_FULL_PAUSE_S = 1.0

Witness = Callable[[KeyValue], Awaitable[str]]
"""Watches the candidate under a key by other means than etcd; returns, with the evidence, once its
process is certainly gone, and not before."""

Proclaims = Callable[[], bytes]
"""Makes what others see of a candidate once it leads."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim came to.

    :param confirms: boot time at which the last keepalive was sent that was acknowledged before the claim was laid:
        a win confirms this one, and none that is acknowledged meanwhile.
    :param standing: who stands, first in line first, where it was refused.
    """

    won: bool
    confirms: float
    revision: int
    standing: tuple[KeyValue, ...] = ()


class Campaign:
    """See :meth:`Election.campaign`."""

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        session: Session,
        *,
        token_floor: int,
        witness: Witness | None,
        proclaims: Proclaims | None,
    ) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._session = session
        self._token_floor = token_floor
        self._witness = witness
        self._proclaims = proclaims
        self._free_at: float | None = None
        self._announced: str | None = None
        self._entry = Entry(etcd, session, prefix)

    async def win(self, value: bytes) -> Leadership:
        """Stand, and return when office is won. Fails or is cancelled: leaves no key behind."""
        session = self._session
        session.check()
        entry = self._entry
        emit(Events.CAMPAIGN_STARTED, key=entry.key)
        session.stands_in = self._prefix
        try:
            await entry.enter(value)
            term = Term(self._prefix, session.lease_id, entry.create_revision, self._token_floor)
            claim = await self._wait_for_office(term)
        except BaseException:
            if await entry.withdraw():
                session.stands_in = None
            raise
        return Leadership(
            self._etcd,
            session,
            term,
            confirmed_at=claim.confirms,
            won_revision=claim.revision,
            key_revision=entry.mod_revision,
            may_return=entry.may_return,
            free_at=self._free_at,
        )

    async def _wait_for_office(self, term: Term) -> Claim:
        """Return the claim that won."""
        claim = await self._claim(term)
        while not (claim.won and self._is_fresh(claim.confirms)):
            if claim.won:
                claim = await self._claim(term)
                continue
            mine = next((kv for kv in claim.standing if kv.create_revision == term.create_revision), None)
            if mine is None or mine.key != term.key:
                raise CampaignLost(f"candidate {term.key} was deleted while it was waiting")
            self._entry.mod_revision = mine.mod_revision
            before = [kv for kv in claim.standing if kv.create_revision < term.create_revision]
            if before and before[-1].lease:
                claim = await self._after_a_change(before, term, claim.revision)
                continue
            if before:
                await self._remove_leaseless(before[-1])
            claim = await self._claim(term)
        return claim

    def _is_fresh(self, sent_at: float) -> bool:
        """Whether a win may be trusted that confirms a keepalive sent at that boot time."""
        return boottime() < sent_at + self._session.ttl_s - self._session.margin_s

    async def _claim(self, term: Term, over: KeyValue | None = None) -> Claim:
        """Win if nobody is before this candidate; or nobody but the one that this is laid over."""
        session = self._session
        session.check()
        if not self._is_fresh(session.acknowledged_at):
            await session.renew()
        confirms = session.acknowledged_at
        first = over or term
        compares = [
            created_at(term.key, term.create_revision),
            none_created_before(term.prefix, first.create_revision),
        ]
        success: list[Op] = []
        if over is not None:
            compares.append(created_at(over.key, over.create_revision))
            success.append(Delete(over.key))
        if self._proclaims is not None:
            # Under this compare an unanswered try cannot land later, over what was proclaimed since.
            compares.append(modified_at(term.key, self._entry.mod_revision))
            success.append(Put(term.key, self._proclaims(), lease=term.lease_id))
        result = await self._lay(compares, success)
        if not result.succeeded:
            standing = sorted(result.range(0).kvs, key=lambda kv: kv.create_revision)
            return Claim(False, confirms, result.revision, tuple(standing))
        if self._proclaims is not None:
            self._entry.mod_revision = result.revision
        return Claim(True, confirms, result.revision)

    async def _lay(self, compares: list[Compare], success: list[Op]) -> TxnResult:
        while True:
            try:
                return await self._etcd.txn(
                    compares, success, [Get(self._prefix, prefix=True)], repeatable=True
                )
            except NoSpace:
                # Whoever stands keeps its place: no other lease is to be had until there is room again.
                await asyncio.sleep(_FULL_PAUSE_S)
                self._session.check()

    async def _after_a_change(self, before: list[KeyValue], term: Term, revision: int) -> Claim:
        """Wait until another claim is worth while, and lay it."""
        predecessor = before[-1]
        if self._announced != predecessor.key:
            self._announced = predecessor.key
            emit(Events.WAITING_FOR_PREDECESSOR, key=predecessor.key, ahead=len(before))
        waits = [
            until_event(self._etcd.connection, [Watched(predecessor.key), Watched(term.key)], after=revision),
            self._session.wait_lost(),
            asyncio.sleep(self._session.ttl_s),  # a watch can lag without bound: look again now and then
        ]
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(wait) for wait in waits]
        verdict = asyncio.ensure_future(self._witness(predecessor)) if self._witness is not None else None
        if verdict is not None:
            tasks.append(verdict)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._free_at = boottime()
            for task in done:
                task.result()
            # Not among the waits: there the news of what it does itself would cut it short.
            if verdict is None or verdict not in done:
                return await self._claim(term)
            return await self._act_on(verdict.result(), predecessor, term)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _act_on(self, evidence: str, dead: KeyValue, term: Term) -> Claim:
        """Act on a verdict: delete the dead candidate's key by compare, then end its lease; and claim."""
        emit(Events.VERDICT, key=dead.key, evidence=evidence)
        # Who was before that one when this candidate came may be gone, so that nobody is but the dead.
        claim = await self._claim(term, over=dead)
        if claim.won or await self._remove(dead):
            self._session.beside(self._etcd.revoke(dead.lease), f"revoke {dead.lease:x}")
        return claim if claim.won else await self._claim(term)

    async def _remove(self, kv: KeyValue) -> bool:
        """Delete that very key; whether it was there."""
        result = await self._etcd.txn(
            [created_at(kv.key, kv.create_revision)], [Delete(kv.key)], repeatable=True
        )
        return result.succeeded

    async def _remove_leaseless(self, kv: KeyValue) -> None:
        """A key without a lease would block the election for ever."""
        emit(Events.CANDIDATE_WITHOUT_LEASE, key=kv.key, create_revision=kv.create_revision)
        await self._remove(kv)
