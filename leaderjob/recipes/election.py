"""Leader election, key-compatible with etcd's own recipe (etcd ``client/v3/concurrency/election.go``).

A candidate creates ``<prefix><lease id in hex>`` on its session's lease; the lowest create revision
leads; each candidate waits for the one before it, so a handover wakes one candidate and not all.

What this recipe does differently, and why:

* A win is declared only after the candidate's own key was read again, in a transaction. etcd's Go
  recipe does not, and can report a leadership whose lease is gone.
* A term is trusted only until the last keepalive that was both acknowledged and CONFIRMED by a
  linearizable read of the key, counted from when it was sent, minus a margin.
* The fence has two halves: my key is the one that I created, AND nothing in the prefix was created
  before it. The first half alone also holds for a candidate that is still queued.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from leaderjob.clock import boottime
from leaderjob.etcd import (
    AmbiguousWrite,
    Compacted,
    Compare,
    Delete,
    Etcd,
    EtcdError,
    Get,
    KeyValue,
    Put,
    TxnResult,
    absent,
    created_at,
    follow,
    none_created_before,
)
from leaderjob.etcd.stream import stream
from leaderjob.model.term import Term
from leaderjob.recipes.errors import CampaignLost, NotLeader, TermLost
from leaderjob.recipes.session import Session
from leaderjob.telemetry.events import Events, emit

_WITHDRAW_TIMEOUT_S = 1.0
_CLOCK_CHECK_S = 0.5

Witness = Callable[[KeyValue], Awaitable[str]]
"""Watches the candidate under a key by other means than etcd; returns, with the evidence, once its
process is certainly gone, and not before."""


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
    :param free_at: boot time at which it became known that the candidate before was gone; None: there was none.
    """

    def __init__(
        self, etcd: Etcd, session: Session, term: Term, *, confirmed_at: float, free_at: float | None = None
    ) -> None:
        self.etcd = etcd
        self.session = session
        self.term = term
        self.trusted_until = confirmed_at + session.ttl_s - session.margin_s
        """Boot time in seconds. At and after it, nothing is started or written in the term's name."""
        self.won_at = boottime()
        self.free_at = free_at
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
        emit(Events.TRUST_EXTENDED, term=self.term.token, left_s=round(self.trusted_until - boottime(), 3))
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


class Election:
    """An election by its prefix. :param prefix: with a trailing slash, so that no prefix nests in another."""

    def __init__(self, etcd: Etcd, prefix: str, *, token_floor: int = 0) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"the prefix of an election ends with '/': {prefix!r}")
        self.etcd = etcd
        self.prefix = prefix
        self.token_floor = token_floor

    async def campaign(self, session: Session, value: bytes, *, witness: Witness | None = None) -> Leadership:
        """Stand for election, and wait until it is won.

        A campaign that fails or is cancelled leaves no key behind.

        :param value: what others see of this candidate.
        :param witness: how to learn of the death of the candidate before this one in less than its TTL.
        :raises SessionLost: the lease is gone. :raises CampaignLost: the key was deleted.
        :raises EtcdError: etcd does not answer.
        """
        session.check()
        key = f"{self.prefix}{session.lease_id:x}"
        emit(Events.CAMPAIGN_STARTED, key=key)
        try:
            create_revision = await self._enter(key, session, value)
            term = Term(self.prefix, session.lease_id, create_revision, self.token_floor)
            confirmed_at, free_at = await self._wait_for_office(term, session, witness)
            leadership = Leadership(self.etcd, session, term, confirmed_at=confirmed_at, free_at=free_at)
            if not leadership.trusted:
                await self._renew(leadership)
        except BaseException:
            await self._withdraw(key)
            raise
        session.on_acknowledged = leadership.confirm
        session.term = term.token
        session.renew_now()
        emit(Events.TERM_WON, term=term.token)
        return leadership

    async def leader(self) -> KeyValue | None:
        """Who leads now: the key with the lowest create revision."""
        return (await self.etcd.range(self.prefix)).first

    async def observe(self) -> AsyncGenerator[KeyValue | None, None]:
        """Who leads, now and at each change (of the leader, or of what it proclaims). Runs until closed."""
        candidates: dict[str, KeyValue] = {}
        last: KeyValue | None = None
        first = True
        async with aclosing(follow(self.etcd, self.prefix)) as batches:
            async for batch in batches:
                for event in batch.events:
                    if event.now is None:
                        candidates.pop(event.key, None)
                    else:
                        candidates[event.key] = event.now
                leader = min(candidates.values(), key=lambda kv: kv.create_revision, default=None)
                if first or leader != last:
                    first, last = False, leader
                    yield leader

    async def proclaim(self, leadership: Leadership, value: bytes) -> int:
        """Change what others see of this leader; returns the revision: all that earlier terms wrote lies
        below it. :raises NotLeader: it is none any more."""
        leadership.check()
        put = Put(leadership.term.key, value, lease=leadership.term.lease_id)
        result = await self.etcd.txn(fence(leadership.term), [put], repeatable=True)
        if not result.succeeded:
            leadership.end("a newer term is in office")
            raise NotLeader(f"term {leadership.term.token} no longer holds office; nothing was written")
        return result.revision

    async def resign(self, leadership: Leadership, reason: str = "resigned") -> None:
        """Give up office; whoever is next takes over at once. Only when all work of the term has stopped.

        Compares before it deletes, so that it never removes a key that somebody else made. Where etcd
        does not answer in time the lease takes the key with it.
        """
        leadership.end(reason)
        leadership.session.on_acknowledged = None
        term = leadership.term
        with suppress(TimeoutError):
            async with asyncio.timeout(_WITHDRAW_TIMEOUT_S):
                await self.etcd.txn(
                    [created_at(term.key, term.create_revision)], [Delete(term.key)], repeatable=True
                )

    async def _enter(self, key: str, session: Session, value: bytes) -> int:
        """Create the candidate's key, or find it; returns its create revision."""
        while True:
            session.check()
            try:
                result = await _to_the_end(
                    self.etcd.txn([absent(key)], [Put(key, value, lease=session.lease_id)], [Get(key)])
                )
            except AmbiguousWrite:
                # The key bears our lease's id, so whichever try creates it, it is ours, and the
                # other one finds it there.
                continue
            if result.succeeded:
                return result.revision
            found = result.range(0).first
            if found is not None:
                return found.create_revision

    async def _wait_for_office(
        self, term: Term, session: Session, witness: Witness | None
    ) -> tuple[float, float | None]:
        """Return when a transaction has shown that the key is there, and that none is before it.

        What is returned is when the keepalive was sent that this transaction confirms (one that is acknowledged
        while it is under way is not among them), and when something was heard of the candidate before.
        """
        announced = None
        free_at: float | None = None
        while True:
            session.check()
            standing = await self.etcd.range(self.prefix)
            before = [kv for kv in standing.kvs if kv.create_revision < term.create_revision]
            if not any(
                (kv.key, kv.create_revision) == (term.key, term.create_revision) for kv in standing.kvs
            ):
                raise CampaignLost(f"candidate {term.key} was deleted while it was waiting")
            if not before:
                confirmed_at = session.acknowledged_at
                proof = await self.etcd.txn(fence(term), [Get(term.key)], repeatable=True)
                if proof.succeeded:
                    return confirmed_at, free_at
                continue
            predecessor = before[-1]
            if predecessor.lease == 0:
                await self._remove_leaseless(predecessor)
                continue
            if announced != predecessor.key:
                announced = predecessor.key
                emit(Events.WAITING_FOR_PREDECESSOR, key=predecessor.key, ahead=len(before))
            free_at = await self._wait_for_change(predecessor, term, session, standing.revision, witness)

    async def _wait_for_change(
        self, predecessor: KeyValue, term: Term, session: Session, revision: int, witness: Witness | None
    ) -> float:
        """Return when something happened that makes another look worth while: at which boot time."""
        verdict = asyncio.ensure_future(witness(predecessor)) if witness is not None else None
        waits = [
            self._deleted(predecessor.key, revision),
            self._deleted(term.key, revision),
            session.wait_lost(),
            asyncio.sleep(session.ttl_s),  # a watch can lag without bound: look again now and then
        ]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        if verdict is not None:
            tasks.append(verdict)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            heard_at = boottime()
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # Not among the waits: there the news of the deletion would cut it short before the lease is revoked.
        if verdict is not None and verdict in done:
            await self._remove_dead(predecessor, verdict.result())
        return heard_at

    async def _deleted(self, key: str, revision: int) -> None:
        """Return when ``key`` was deleted after ``revision``, or when that can no longer be told."""
        with suppress(Compacted):
            async with aclosing(stream(self.etcd.connection, key, start_revision=revision + 1)) as batches:
                async for batch in batches:
                    if any(event.deleted for event in batch.events):
                        return

    async def _remove_dead(self, predecessor: KeyValue, evidence: str) -> None:
        """Act on a verdict: delete the dead candidate's key by compare, then end its lease."""
        emit(Events.VERDICT, key=predecessor.key, evidence=evidence)
        result = await self.etcd.txn(
            [created_at(predecessor.key, predecessor.create_revision)],
            [Delete(predecessor.key)],
            repeatable=True,
        )
        if result.succeeded:
            await self.etcd.revoke(predecessor.lease)

    async def _remove_leaseless(self, kv: KeyValue) -> None:
        """A key without a lease would block the election for ever."""
        emit(Events.CANDIDATE_WITHOUT_LEASE, key=kv.key, create_revision=kv.create_revision)
        await self.etcd.txn([created_at(kv.key, kv.create_revision)], [Delete(kv.key)], repeatable=True)

    async def _renew(self, leadership: Leadership) -> None:
        """A win that stands on an old keepalive needs a fresh one before it may be trusted."""
        sent_at = boottime()
        await self.etcd.keep_alive(leadership.term.lease_id, timeout_s=leadership.session.ttl_s / 4)
        await leadership.confirm(sent_at)
        leadership.check()

    async def _withdraw(self, key: str) -> None:
        """Leave no key behind. Where etcd does not answer, the lease takes the key with it."""
        with suppress(EtcdError, TimeoutError):
            async with asyncio.timeout(_WITHDRAW_TIMEOUT_S):
                await self.etcd.delete(key)


async def _to_the_end(writing: Coroutine[Any, Any, TxnResult]) -> TxnResult:
    """What ``writing`` returns. Cancelled, it is let come to its end first: a write that is under way to etcd would
    arrive after whatever is done to take it back."""
    task = asyncio.ensure_future(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_WITHDRAW_TIMEOUT_S)
        raise
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
