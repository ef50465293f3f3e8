"""The disk of etcd's leader stalls: it goes on acknowledging, while the others have elected another one."""

from pathlib import Path

import pytest

from leaderjob.clock import boottime
from tests.faults.harness import end_of, every_release, members, standing, trusted_after, writing
from tests.support.candidates import SHORT
from tests.support.etcd import line_of
from tests.support.needs import needs

pytestmark = needs("machines", "disks")


@every_release
async def test_a_leader_steps_down_before_another_wins_though_a_frozen_etcd_goes_on_acknowledging(
    tmp_path: Path, binary: Path
) -> None:
    async with members(tmp_path, binary=binary, disk_for="log") as etcd:
        frozen = await etcd.leader()
        others = [member.endpoint for member in etcd.besides(frozen)]
        async with (
            standing([frozen.endpoint], timing=SHORT, call_timeout_s=0.3) as first,
            standing(others, timing=SHORT) as second,
            writing(others) as writer,
        ):
            deposed = await first.lead()
            async with second.queued() as winning:
                frozen.disk.freeze()
                frozen_at = boottime()
                ended_at = await end_of(deposed)
                won = await winning
            assert ended_at < won.won_at
            assert ended_at < frozen_at + SHORT.ttl_s - SHORT.margin_s
            if line_of(binary) == "3.4":
                # That the quorum has deleted the key is known by now; this member says that the lease lives. Later
                # releases acknowledge only while they can confirm that they lead.
                await first.acknowledged_since(won.won_at)
                assert not first.session.is_lost
            await writer.more(1)


@pytest.mark.slow
@every_release
async def test_a_leader_that_knows_the_other_members_keeps_office(tmp_path: Path, binary: Path) -> None:
    async with members(tmp_path, binary=binary, disk_for="everything") as etcd:
        frozen = await etcd.leader()
        there = etcd.endpoints_from(frozen)
        async with standing(there) as candidate, writing(there) as writer:
            leadership = await candidate.lead()
            frozen.disk.freeze()
            await etcd.leader(other_than=frozen)
            await writer.more(1)
            await trusted_after(leadership, boottime())
