"""What operators, and full databases, do to an etcd that is in use."""

from pathlib import Path

import pytest

from leaderjob.clock import boottime
from leaderjob.etcd import Etcd, HistoryWentBack, NoSpace
from tests.faults.harness import (
    every_release,
    lines_to,
    members,
    recording,
    standing,
    trusted_after,
    writing,
)
from tests.faults.harness.store import Backup, compact, defragment, disarm, fill_quota

QUOTA_BYTES = 16 * 1024 * 1024


@every_release
async def test_without_space_leases_and_writes_are_refused_and_office_is_kept(
    tmp_path: Path, binary: Path
) -> None:
    async with (
        members(tmp_path, 1, binary=binary, quota_bytes=QUOTA_BYTES) as etcd,
        standing(etcd.endpoints) as candidate,
        Etcd(etcd.endpoints) as client,
    ):
        leadership = await candidate.lead()
        lease, _ = await client.grant(60)
        await client.put("/mine", b"", lease=lease)
        await fill_quota(etcd)
        for refused in (
            client.grant(60),
            client.put("/mine", b""),
            candidate.election.proclaim(leadership, b""),
        ):
            with pytest.raises(NoSpace, match="alarm disarm"):
                await refused
        assert await client.keep_alive(lease, timeout_s=1) == 60
        assert await client.delete("/mine") == 1
        await client.revoke(lease)
        await trusted_after(leadership, boottime())
        await disarm(etcd)
        await candidate.election.proclaim(leadership, b"")


@every_release
async def test_campaigns_and_watches_outlive_compactions_and_defragmentations(
    tmp_path: Path, binary: Path
) -> None:
    """With their connections broken meanwhile, they want to go on where there is nothing any more."""

    async with (
        members(tmp_path, binary=binary) as etcd,
        lines_to(etcd.every) as lines,
        standing(etcd.endpoints) as first,
        standing(lines.endpoints) as second,
        recording(lines.endpoints) as recorder,
        writing(etcd.endpoints) as writer,
    ):
        leadership = await first.lead()
        async with second.queued() as winning:
            for _ in range(3):
                lines.cut()
                await writer.more(20)
                await compact(etcd.every[0])
                lines.reset()
                lines.heal()
                for member in etcd.every:
                    await defragment(member)
                await recorder.missed_nothing_of(writer)
            assert recorder.listings > 1, "nothing was compacted away from under it"
            await trusted_after(leadership, boottime())
            assert not winning.done()
            await first.election.resign(leadership)
            won = await winning
        await trusted_after(won, boottime())


@pytest.mark.slow
async def test_a_cluster_restored_from_a_backup_is_noticed_by_whoever_knows_more(tmp_path: Path) -> None:
    async with (
        members(tmp_path) as etcd,
        Etcd(etcd.endpoints) as knowing,
        Etcd(etcd.endpoints) as ignorant,
        Etcd(etcd.endpoints) as writer,
    ):
        backup = Backup(etcd, tmp_path / "backup")
        await ignorant.put("/kept", b"")
        await backup.take()
        lost = await knowing.put("/lost", b"")
        await backup.restore()
        with pytest.raises(HistoryWentBack, match="restored from a backup"):
            await knowing.get("/kept")
        assert await ignorant.get("/lost") is None
        # Not even once others have written so much that the revision says nothing.
        assert await writer.put("/new", b"") == lost
        with pytest.raises(HistoryWentBack):
            await knowing.put("/lost", b"")
