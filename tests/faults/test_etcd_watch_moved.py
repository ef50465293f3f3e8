"""A watch that is far behind loses its member in the middle of catching up."""

import asyncio
from contextlib import aclosing
from pathlib import Path

from leaderjob.etcd import Etcd, follow
from tests.faults.harness import Member, every_release, lines_to, members

REVISIONS = 4000
"""etcd sends a watcher that is behind batches of 1000 revisions."""


@every_release
async def test_a_watch_that_loses_its_member_while_it_catches_up_misses_and_repeats_nothing(
    tmp_path: Path, binary: Path
) -> None:
    async with (
        members(tmp_path, binary=binary) as etcd,
        lines_to(etcd.every) as lines,
        Etcd(lines.endpoints) as client,
        Etcd(etcd.endpoints) as writer,
    ):
        since = await writer.put("/far/start", b"")
        for first in range(0, REVISIONS, 200):
            puts = (writer.put(f"/far/{number}", bytes(200)) for number in range(first, first + 200))
            await asyncio.gather(*puts)
        told: list[tuple[int, str]] = []
        lost: set[Member] = set()
        async with aclosing(follow(client, "/far/", since=since)) as batches:
            await anext(batches)  # what was there before
            async for batch in batches:
                told += [(event.revision, event.key) for event in batch.events]
                if len(told) >= REVISIONS:
                    break
                if len(lost) < 2:
                    member = lines.member_at(client.connection.endpoint)
                    lost.add(member)
                    await lines.to(member).refuse()
        assert len(lost) == 2, "it was sent in one piece: this showed nothing"
        assert [revision for revision, _ in told] == list(range(since + 1, since + REVISIONS + 1))
        assert {key for _, key in told} == {f"/far/{number}" for number in range(REVISIONS)}
