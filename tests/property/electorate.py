"""Candidates for one election, each behind a proxy of its own, and what is known of the terms that they won."""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from leaderjob.clock import boottime
from leaderjob.etcd import Etcd, EtcdError, Get, KeyValue, Op, Put
from leaderjob.etcd.rpc import rpc
from leaderjob.model.term import Term
from leaderjob.recipes import CampaignLost, Election, Leadership, Session, SessionLost, TermLost, fence
from tests.property.proxied import proxied
from tests.support.candidates import SHORT, Observed
from tests.support.cuttable import Cuttable

TRUST_S = SHORT.ttl_s - SHORT.margin_s
ANSWERED_WITHIN_S = 0.9
"""Who withdraws, or closes a session, gives up after a second: what took longer may not be done."""
_LEADER_WITHIN_S = 3 * SHORT.ttl_s
_EXPIRY_TIMEOUT_S = 3 * SHORT.ttl_s
_LOOK_S = 0.02


@dataclass
class Win:
    """A term that was won; ``resigned_at`` is when its holder began to resign, in boot time."""

    leadership: Leadership
    resigned_at: float | None = None

    @property
    def term(self) -> Term:
        return self.leadership.term

    @property
    def trusted_until(self) -> float:
        """When it was no longer trusted, at the latest."""
        until = self.leadership.trusted_until
        return until if self.resigned_at is None else min(until, self.resigned_at)


class Candidate:
    """Opens a session and campaigns, in the background; after a defeat, with a new session."""

    def __init__(self, client: Observed, proxy: Cuttable, prefix: str) -> None:
        self.client = client
        self.proxy = proxy
        self.session: Session | None = None
        self.wins: list[Win] = []
        self.revoked: list[int] = []
        """The leases of the sessions that were closed while nothing was wrong with the connection."""
        self.reachable = True
        self.faults = 0
        """How often something was done to the connection."""
        self._election = Election.below(client, prefix)
        self._campaign: asyncio.Task[None] | None = None

    @property
    def standing(self) -> bool:
        return self._campaign is not None and not self._campaign.done()

    @property
    def leading(self) -> Win | None:
        """The term that it has neither resigned nor found to be over."""
        win = self.wins[-1] if self.wins else None
        return win if win is not None and win.resigned_at is None and win.leadership.trusted else None

    def stand(self) -> None:
        if not self.standing and self.leading is None:
            self._campaign = asyncio.create_task(self._stand(), name="a candidate")

    async def _stand(self) -> None:
        await self.resign()
        try:
            if self.session is None or self.session.is_lost:
                await self._open_session()
            assert self.session is not None
            self.wins.append(Win(await self._election.campaign(self.session, b"")))
        except (CampaignLost, SessionLost, TermLost, EtcdError):
            await self._close_session()

    async def resign(self) -> None:
        win = self.wins[-1] if self.wins else None
        if win is None or win.resigned_at is not None:
            return
        win.resigned_at = boottime()
        with suppress(EtcdError):  # then the lease takes the key with it
            await self._election.resign(win.leadership)

    async def withdraw(self) -> None:
        """Cancel the campaign. :raises Exception: what it ended with, if that is none of the known defeats."""
        campaign, self._campaign = self._campaign, None
        if campaign is None:
            return
        campaign.cancel()
        await asyncio.wait([campaign])
        if not campaign.cancelled():
            campaign.result()

    async def leave(self) -> None:
        await self.withdraw()
        await self.resign()
        await self._close_session()

    async def _open_session(self) -> None:
        await self._close_session()
        self.session = await (await Session.open(self.client, SHORT)).__aenter__()

    async def _close_session(self) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        revokes, faults, began_at = not session.is_lost and self.reachable, self.faults, boottime()
        await session.close()
        if revokes and faults == self.faults and boottime() < began_at + ANSWERED_WITHIN_S:
            self.revoked.append(session.lease_id)


@dataclass
class Electorate:
    """All candidates of one election, and an operator that nothing stands in the way of."""

    endpoint: str
    namespace: str
    count: int
    candidates: list[Candidate] = field(default_factory=list)
    accepted: list[tuple[int, int]] = field(default_factory=list)
    """Revision and token of each fenced write that was done."""
    deleted_at: dict[int, float] = field(default_factory=dict)
    revoked_at: dict[int, float] = field(default_factory=dict)
    """When etcd had told an operator, in boot time, that a key is gone (by its create revision), or all that
    was on a lease."""

    def __post_init__(self) -> None:
        self.prefix = f"/{self.namespace}/election/"
        self._record = f"/{self.namespace}/record"
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.operator = await self._stack.enter_async_context(Etcd([self.endpoint]))
        for _ in range(self.count):
            proxy, client = await self._stack.enter_async_context(proxied(self.endpoint, Observed))
            self.candidates.append(Candidate(client, proxy, self.prefix))
            self._stack.push_async_callback(self.candidates[-1].leave)
            self._stack.callback(proxy.heal)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def wins(self) -> list[Win]:
        """In the order of their tokens."""
        wins = (win for candidate in self.candidates for win in candidate.wins)
        return sorted(wins, key=lambda win: win.term.token)

    async def keys(self) -> tuple[KeyValue, ...]:
        """The candidates' keys, and others', oldest first."""
        return (await self.operator.range(self.prefix)).kvs

    async def has_key(self, candidate: Candidate) -> bool:
        session = candidate.session
        return session is not None and any(kv.lease == session.lease_id for kv in await self.keys())

    async def delete(self, kv: KeyValue) -> float:
        """As an operator does, who knows nothing of sessions; returns when it was done."""
        await self.operator.delete(kv.key)
        return self.deleted_at.setdefault(kv.create_revision, boottime())

    async def revoke(self, lease_id: int) -> None:
        await self.operator.revoke(lease_id)
        self.revoked_at.setdefault(lease_id, boottime())

    def removed_at(self, win: Win) -> float | None:
        """When an operator had ended a term, behind the back of its holder."""
        deleted = self.deleted_at.get(win.term.create_revision)
        revoked = self.revoked_at.get(win.term.lease_id)
        return min((at for at in (deleted, revoked) if at is not None), default=None)

    async def write_all(self) -> None:
        """Everybody who has, or ever had, a key in the election tries to write, the youngest first."""
        queued = [
            Term(self.prefix, kv.lease, kv.create_revision)
            for kv in await self.keys()
            if kv.key == f"{self.prefix}{kv.lease:x}"
        ]
        terms = {*queued, *(win.term for win in self.wins)}
        for term in sorted(terms, key=lambda term: -term.token):
            write: list[Op] = [Get(self.prefix, prefix=True), Put(self._record, str(term.token).encode())]
            result = await self.operator.txn(fence(term), write)
            if result.succeeded:
                first = min(result.range(0).kvs, key=lambda kv: kv.create_revision, default=None)
                assert first is not None, f"token {term.token} wrote after its key was gone"
                assert first.create_revision == term.create_revision, (
                    f"token {term.token} wrote though {first.key} was created before"
                )
                self.accepted.append((result.revision, term.token))

    async def leader_emerges(self) -> None:
        """Return once somebody leads, or nobody stands any more. :raises AssertionError: neither, in time."""
        deadline = boottime() + _LEADER_WITHIN_S
        while not any(candidate.leading for candidate in self.candidates):
            if not any(candidate.standing for candidate in self.candidates):
                return
            if boottime() > deadline:
                raise AssertionError(f"nobody leads, and these stand: {[kv.key for kv in await self.keys()]}")
            await asyncio.sleep(_LOOK_S)

    async def keys_vanish(self) -> None:
        """Return once all candidates' keys are gone, of which nobody stands any more.

        :raises AssertionError: one is left of a session that could be closed in order, or for longer than a lease
            lives that nobody keeps alive.
        """
        revoked = {lease_id for candidate in self.candidates for lease_id in candidate.revoked}
        deadline = boottime() + _EXPIRY_TIMEOUT_S
        while left := [kv for kv in await self.keys() if kv.lease]:
            ours = [kv.key for kv in left if kv.lease in revoked or boottime() > deadline]
            assert not ours, f"nobody stands any more, but these keys do: {ours}"
            await asyncio.sleep(_LOOK_S)
        for lease_id in revoked:
            assert not await self._is_granted(lease_id), f"lease {lease_id:x} outlives its session"

    async def expires(self, lease_id: int) -> None:
        """Return once the lease is gone. :raises AssertionError: it lives for longer than it should."""
        deadline = boottime() + _EXPIRY_TIMEOUT_S
        while await self._is_granted(lease_id):
            assert boottime() < deadline, f"lease {lease_id:x} of a candidate that is cut off goes on"
            await asyncio.sleep(_LOOK_S)

    async def _is_granted(self, lease_id: int) -> bool:
        """Whether the lease lives. Asking does not renew it."""
        request = rpc.LeaseTimeToLiveRequest(ID=lease_id)
        answer: Any = await self.operator.connection.call(
            lambda stubs: stubs.lease.LeaseTimeToLive, request, repeatable=True, linearizable=False
        )
        return bool(answer.TTL >= 0)  # below a second it is 0, and -1 once it is gone
