"""Candidates for an election on a real etcd, and a client that tells, and falsifies, what they ask of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from leaderjob.clock import boottime
from leaderjob.etcd import Compare, Etcd, EtcdUnavailable, KeyValue, Op, TxnResult, follow
from leaderjob.recipes import Election, Leadership, Session, Timing
from tests.support.unanswered import Unanswered

TIMING = Timing(ttl_s=60, margin_s=2, keepalive_s=2)
"""For tests that are not about the TTL: trust outlasts whatever a busy machine holds up."""
SHORT = Timing(ttl_s=2, margin_s=0.9, keepalive_s=0.2)


class Observed(Unanswered):
    """Tells when keepalives that were acknowledged had been sent (``acknowledged``), and of each claim to office.

    Reads fail while ``reads_fail`` is set; ``before_claim`` runs when a claim is laid, before etcd hears of it.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__(endpoints)
        self.acknowledged = asyncio.Queue[float]()
        self.claimed = asyncio.Queue[None]()
        self.reads_fail = False
        self.before_claim: Callable[[], Awaitable[object]] | None = None

    async def keep_alive(self, lease_id: int, *, timeout_s: float) -> int:
        sent_at = boottime()
        ttl_s = await super().keep_alive(lease_id, timeout_s=timeout_s)
        self.acknowledged.put_nowait(sent_at)
        return ttl_s

    async def get(self, key: str, *, revision: int = 0, urgent: bool = False) -> KeyValue | None:
        if self.reads_fail:
            raise EtcdUnavailable(self.connection.endpoints, "no quorum")
        return await super().get(key, revision=revision, urgent=urgent)

    async def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
        within_s: float | None = None,
    ) -> TxnResult:
        is_claim = any(compare.prefix for compare in compares)
        if is_claim and self.before_claim is not None:
            await self.before_claim()
        result = await super().txn(compares, success, failure, repeatable=repeatable, within_s=within_s)
        if is_claim:
            self.claimed.put_nowait(None)
        return result


class Place:
    """One election, and candidates for it."""

    def __init__(self, endpoint: str, namespace: str) -> None:
        self.endpoint = endpoint
        self.prefix = f"/{namespace}/election/"

    @asynccontextmanager
    async def candidate(
        self, *, timing: Timing = TIMING, endpoint: str | None = None
    ) -> AsyncIterator[tuple[Election, Session, Observed]]:
        async with (
            Observed([endpoint or self.endpoint]) as client,
            await Session.open(client, timing) as session,
        ):
            yield Election.below(client, self.prefix), session, client

    @asynccontextmanager
    async def outside(self) -> AsyncIterator[Etcd]:
        async with Etcd([self.endpoint]) as client:
            yield client

    async def until(self, standing: int) -> tuple[KeyValue, ...]:
        """The candidates' keys, oldest first, as soon as there are so many."""
        keys: dict[str, KeyValue] = {}
        async with self.outside() as client, aclosing(follow(client, self.prefix)) as batches:
            async for batch in batches:
                for event in batch.events:
                    keys.pop(event.key, None)
                    if event.now is not None:
                        keys[event.key] = event.now
                if len(keys) == standing:
                    break
        return tuple(sorted(keys.values(), key=lambda kv: kv.create_revision))


@asynccontextmanager
async def campaigning(
    election: Election, session: Session, value: bytes = b""
) -> AsyncIterator[asyncio.Task[Leadership]]:
    """A candidate that campaigns in the background, and is withdrawn if it has not won by the end."""
    task = asyncio.create_task(election.campaign(session, value))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
