"""Candidates that know all members, and what is told of their office afterwards."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from leaderjob.clock import boottime
from leaderjob.etcd import follow
from leaderjob.recipes import Election, Leadership, Session, Timing
from tests.support.candidates import Observed, campaigning

OUTLASTING = Timing(ttl_s=5, margin_s=1)
"""The shortest with which leadership is promised to outlast the death of an etcd leader."""


@dataclass(frozen=True, slots=True)
class Candidate:
    election: Election
    session: Session
    client: Observed

    @property
    def key(self) -> str:
        """Where it stands, once it does."""
        return f"{self.election.prefix}{self.session.lease_id:x}"

    async def lead(self) -> Leadership:
        return await self.election.campaign(self.session, b"")

    @asynccontextmanager
    async def queued(self) -> AsyncIterator[asyncio.Task[Leadership]]:
        """It stands in the queue, and campaigns in the background; withdrawn at the end if it has not won."""
        async with campaigning(self.election, self.session) as winning:
            async with aclosing(follow(self.client, self.key)) as batches:
                async for batch in batches:
                    if batch.events:
                        break
            yield winning

    async def acknowledged_since(self, boottime_s: float) -> None:
        """Return when a keepalive was acknowledged that was sent after that moment."""
        while await self.client.acknowledged.get() <= boottime_s:
            pass


@asynccontextmanager
async def standing(
    endpoints: Sequence[str],
    prefix: str = "/election/",
    timing: Timing = OUTLASTING,
    *,
    call_timeout_s: float = 2.0,
) -> AsyncIterator[Candidate]:
    """A session and its client; it campaigns when it is told to."""
    async with Observed(endpoints) as client:
        client.connection.call_timeout_s = call_timeout_s
        async with await Session.open(client, timing) as session:
            yield Candidate(Election.below(client, prefix), session, client)


async def end_of(leadership: Leadership) -> float:
    """Wait until a term is over; returns the boot time from which on nothing was done in its name."""
    await leadership.wait_ended()
    return min(boottime(), leadership.trusted_until)


async def trusted_after(leadership: Leadership, boottime_s: float) -> None:
    """Return when a keepalive was confirmed that was sent after that moment; it must not end before."""
    session = leadership.session
    while leadership.trusted_until <= boottime_s + session.ttl_s - session.margin_s:
        leadership.check()
        await asyncio.sleep(0.02)
