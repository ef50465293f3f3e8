"""Most members of etcd are gone for longer than the TTL, and come back."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from leaderjob.clock import boottime
from leaderjob.etcd import Etcd, follow
from leaderjob.recipes import CampaignLost, SessionLost
from tests.faults.harness import (
    Members,
    end_of,
    every_release,
    lines_to,
    members,
    recording,
    standing,
    writing,
)
from tests.faults.harness.store import leases
from tests.support.candidates import SHORT


async def lose(etcd: Members, how: str) -> None:
    for member in await etcd.followers():
        if how == "stopped":
            member.stop()
        else:
            member.kill()


@every_release
@pytest.mark.parametrize("how", ["stopped", pytest.param("killed", marks=pytest.mark.slow)])
async def test_who_leads_steps_down_without_a_quorum_and_the_queue_goes_on_when_it_is_back(
    tmp_path: Path, binary: Path, how: str
) -> None:
    async with members(tmp_path, binary=binary) as etcd, Etcd(etcd.endpoints) as operator:
        async with (
            standing(etcd.endpoints, timing=SHORT) as first,
            standing(etcd.endpoints, timing=SHORT) as second,
            recording(etcd.endpoints) as recorder,
            writing(etcd.endpoints) as writer,
        ):
            deposed = await first.lead()
            async with second.queued() as winning:
                await lose(etcd, how)
                ended_at = await end_of(deposed)
                # Without a quorum no lease runs out: nobody wins, however long it lasts.
                await asyncio.wait([winning], timeout=ended_at + SHORT.ttl_s - boottime())
                assert not winning.done()
                await etcd.mend()
                await first.acknowledged_since(boottime())
                first.session.check()
                await first.election.resign(deposed)
                won = await winning
            won.check()
            assert ended_at < won.won_at
            await writer.more(5)
            await recorder.missed_nothing_of(writer)
        await nothing_is_left(etcd, operator)


async def nothing_is_left(etcd: Members, operator: Etcd) -> None:
    """Of what was under way when there was no quorum, a grant among it: it runs out by itself."""
    while await asyncio.to_thread(leases, etcd.every[0]):
        await asyncio.sleep(0.05)
    assert not (await operator.range("/election/")).kvs


async def test_a_candidate_that_could_not_reach_anybody_until_its_lease_was_gone_never_wins(
    tmp_path: Path,
) -> None:
    """Others could, so its lease ran out while it was in the queue; the one after it moves up."""

    async with (
        members(tmp_path) as etcd,
        lines_to(etcd.every) as lines,
        standing(etcd.endpoints) as first,
        standing(lines.endpoints, timing=SHORT) as second,
        standing(etcd.endpoints) as third,
        Etcd(etcd.endpoints) as operator,
    ):
        leadership = await first.lead()
        async with second.queued() as losing, third.queued() as winning:
            lines.cut()
            await until_gone(operator, second.key)
            await first.election.resign(leadership)
            won = await winning
            lines.heal()
            with pytest.raises((SessionLost, CampaignLost)):
                await losing
            won.check()
            await second.session.wait_lost()


async def until_gone(client: Etcd, key: str) -> None:
    async with aclosing(follow(client, key)) as batches:
        async for batch in batches:
            if any(event.now is None for event in batch.events):
                return
