"""Writes that a member keeps while it is cut off from the others, and that are committed when it is back.

Meanwhile whoever asked was told nothing, and a linearizable read showed them as not done.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from leaderjob.etcd import AmbiguousWrite, Etcd, Put, absent, follow, modified_at
from leaderjob.recipes import Election, Leadership, NotLeader
from leaderjob.records.fenced import FencedWriter
from tests.faults.harness import Candidate, Member, Members, every_release, members, standing

RECORD, WITNESS = "/record", "/witness"
CALL_TIMEOUT_S = 0.3
ELECTION_MS = 3000
"""The keeper must not have forgotten who leads etcd before it is back."""

pytestmark = every_release


@dataclass(frozen=True, slots=True)
class Scene:
    """:param keeper: the member that keeps writes; the leader's client, and ``through_it``, ask it first."""

    etcd: Members
    keeper: Member
    candidate: Candidate
    leadership: Leadership
    through_it: Etcd
    outside: Etcd

    async def keep_writes(self) -> None:
        await self.keeper.link.cut(clients=False)

    async def deliver(self) -> None:
        """Return when all that was kept has been committed, or refused."""
        with pytest.raises(AmbiguousWrite):
            await self.through_it.put(WITNESS, b"")
        assert await self.outside.get(WITNESS) is None
        await self.keeper.link.heal()
        async with aclosing(follow(self.outside, WITNESS)) as batches:
            async for batch in batches:
                if batch.events:
                    return


@asynccontextmanager
async def scene(directory: Path, binary: Path) -> AsyncIterator[Scene]:
    async with members(directory, binary=binary, election_ms=ELECTION_MS) as etcd:
        keeper = (await etcd.followers())[0]
        others = [member.endpoint for member in etcd.besides(keeper)]
        async with (
            standing(etcd.endpoints_from(keeper), call_timeout_s=CALL_TIMEOUT_S) as candidate,
            Etcd([keeper.endpoint], call_timeout_s=CALL_TIMEOUT_S) as through_it,
            Etcd(others) as outside,
        ):
            leadership = await candidate.lead()
            await through_it.get(WITNESS)
            yield Scene(etcd, keeper, candidate, leadership, through_it, outside)


async def test_a_fenced_write_whose_first_try_is_committed_late_is_done_once(
    tmp_path: Path, binary: Path
) -> None:
    async with scene(tmp_path, binary) as it:
        writer = FencedWriter(it.leadership)
        read_at = await writer.commit([absent(RECORD)], [Put(RECORD, b"1")])
        await it.keep_writes()
        revision = await writer.commit([modified_at(RECORD, read_at)], [Put(RECORD, b"2")])
        await it.deliver()
        found = await it.outside.get(RECORD)
        assert found is not None
        assert (found.value, found.version, found.mod_revision) == (b"2", 2, revision)


async def test_a_fenced_write_that_arrives_when_its_term_is_over_is_refused(
    tmp_path: Path, binary: Path
) -> None:
    async with (
        scene(tmp_path, binary) as it,
        standing([member.endpoint for member in it.etcd.besides(it.keeper)]) as second,
        second.queued() as winning,
    ):
        await it.keep_writes()
        commit = FencedWriter(it.leadership).commit([absent(RECORD)], [Put(RECORD, b"late")])
        writing = asyncio.ensure_future(commit)
        await it.outside.delete(it.leadership.term.key)
        await winning
        with pytest.raises(NotLeader):
            await writing
        await it.deliver()
        assert await it.outside.get(RECORD) is None


async def test_what_a_leader_proclaimed_is_not_overwritten_by_an_earlier_try_that_arrives_late(
    tmp_path: Path, binary: Path
) -> None:
    async with scene(tmp_path, binary) as it:
        election = it.candidate.election
        await it.keep_writes()
        await election.proclaim(it.leadership, b"old")
        await election.proclaim(it.leadership, b"new")
        await it.deliver()
        leader = await Election.below(it.outside, election.prefix).leader()
        assert leader is not None
        assert leader.value == b"new"
