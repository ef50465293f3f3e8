"""A hundred candidates at once: a handover is a matter between two of them."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from leaderjob.etcd import Etcd, follow
from leaderjob.recipes import Leadership, Timing
from tests.faults.harness import Candidate, members, standing

CANDIDATES = 100
PATIENT = Timing(ttl_s=60, margin_s=2)
"""Nobody looks again of its own accord, which waiting candidates do once per TTL."""


async def test_a_handover_among_a_hundred_candidates_wakes_one_and_keeps_their_order(tmp_path: Path) -> None:
    async with members(tmp_path) as etcd, AsyncExitStack() as stack:
        candidates = [standing(etcd.endpoints, timing=PATIENT) for _ in range(CANDIDATES)]
        crowd = await asyncio.gather(*map(stack.enter_async_context, candidates))
        async with asyncio.TaskGroup() as group:
            campaigns = {group.create_task(one.lead()): one for one in crowd}
            await until_all_stand(etcd.endpoints)
            terms = await through_all(campaigns)
        tokens = [leadership.term.token for _, leadership in terms]
        assert tokens == sorted(set(tokens))
        looks = [one.client.claimed.qsize() for one, _ in terms]
        assert looks == [1, *[2] * (CANDIDATES - 1)], "once when it came, once when the one before it went"


async def until_all_stand(endpoints: list[str]) -> None:
    standing_there = 0
    async with Etcd(endpoints) as client, aclosing(follow(client, "/election/")) as batches:
        async for batch in batches:
            standing_there += len(batch.events)
            if standing_there == CANDIDATES:
                return


async def through_all(
    campaigns: dict[asyncio.Task[Leadership], Candidate],
) -> list[tuple[Candidate, Leadership]]:
    """Hand office on until nobody waits any more; returns who had it, and its term, in that order."""
    terms = []
    while campaigns:
        won, _ = await asyncio.wait(campaigns, return_when=asyncio.FIRST_COMPLETED)
        assert len(won) == 1
        candidate, leadership = campaigns.pop(*won), next(iter(won)).result()
        terms.append((candidate, leadership))
        await candidate.election.resign(leadership)
    return terms
