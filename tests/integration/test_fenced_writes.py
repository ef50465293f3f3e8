"""Fenced writes against a real etcd: only in office, only on what was read, and each exactly once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from leaderjob.clock import boottime
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import (
    AmbiguousWrite,
    Delete,
    Etcd,
    Op,
    Put,
    RequestRefused,
    Txn,
    ValueTooLarge,
    absent,
    modified_at,
)
from leaderjob.recipes import Leadership, NotLeader, TermLost
from leaderjob.records import fenced
from leaderjob.records.fenced import Conflict, FencedWriter
from tests.support.candidates import Observed, Place, campaigning
from tests.support.cuttable import Cuttable
from tests.support.etcd import every_release
from tests.support.unanswered import Fate


class Desk:
    """A leader that writes through a proxy, and somebody who looks on from outside."""

    def __init__(
        self, leadership: Leadership, client: Observed, proxy: Cuttable, outside: Etcd, place: Place
    ) -> None:
        self.leadership = leadership
        self.client = client
        self.writer = FencedWriter(leadership)
        self.proxy = proxy
        self.outside = outside
        self.place = place
        self.key = place.prefix.replace("election/", "record")

    async def value(self) -> bytes | None:
        found = await self.outside.get(self.key)
        return found.value if found else None


@asynccontextmanager
async def desk(etcd: EmbeddedEtcd, namespace: str) -> AsyncIterator[Desk]:
    place = Place(etcd.endpoint, namespace)
    async with (
        Cuttable(etcd.endpoint) as proxy,
        place.candidate(endpoint=proxy.endpoint) as (election, session, client),
        place.outside() as outside,
    ):
        leadership = await election.campaign(session, b"")
        await client.acknowledged.get()  # the connection is quiet now, until the next keepalive
        await client.get("/quiet")
        yield Desk(leadership, client, proxy, outside, place)
        proxy.heal()


@every_release("etcd")
async def test_a_write_in_office_is_committed_and_tells_its_revision(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        revision = await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        found = await it.outside.get(it.key)
        assert found is not None
        assert (found.value, found.mod_revision) == (b"1", revision)


@every_release("etcd")
async def test_a_deposed_terms_write_is_refused_and_ends_the_term(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        desk(etcd, namespace) as it,
        it.place.candidate() as (election, session, _),
        campaigning(election, session) as winning,
    ):
        await it.place.until(2)
        await it.outside.delete(it.leadership.term.key)
        await winning
        it.leadership.check()  # it does not know yet
        with pytest.raises(NotLeader):
            await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        assert await it.value() is None
        with pytest.raises(TermLost, match="newer term"):
            it.leadership.check()


async def test_a_write_whose_key_in_office_is_gone_is_refused_though_nobody_followed(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        await it.outside.delete(it.leadership.term.key)
        with pytest.raises(NotLeader):
            await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        assert await it.value() is None


@every_release("etcd")
async def test_a_record_that_changed_since_it_was_read_is_a_conflict_and_stays(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        read_at = await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        await it.outside.put(it.key, b"somebody else's")
        with pytest.raises(Conflict):
            await it.writer.commit([modified_at(it.key, read_at)], [Put(it.key, b"2")])
        assert await it.value() == b"somebody else's"
        it.leadership.check()


async def test_a_conflict_is_one_even_where_what_is_there_is_what_was_to_be_written(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    """Only a write of ours that got no answer may be taken for done by what is found."""

    async with desk(etcd, namespace) as it:
        await it.outside.put(it.key, b"1")
        with pytest.raises(Conflict):
            await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])


@pytest.mark.timeout_s(10)
async def test_an_unanswered_write_that_was_committed_is_recognised_as_done(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        other = f"{it.key}/other"
        it.proxy.cut(requests=False)
        writing = asyncio.ensure_future(
            it.writer.commit([absent(it.key)], [Put(it.key, b"1"), Put(other, b"2")])
        )
        while await it.value() is None:  # the answer is held back; nothing else tells
            assert not writing.done()
        it.proxy.reset()
        it.proxy.heal()
        revision = await writing
        for key in (it.key, other):
            found = await it.outside.get(key)
            assert found is not None
            assert (found.mod_revision, found.version) == (revision, 1)


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.timeout_s(10)
async def test_a_write_tells_which_of_its_nested_transactions_were_done(
    etcd: EmbeddedEtcd, namespace: str, answered: bool
) -> None:
    async with desk(etcd, namespace) as it:
        occupied, free = f"{it.key}/occupied", f"{it.key}/free"
        await it.outside.put(occupied, b"new")
        ops: list[Op] = [
            Put(it.key, b"1"),
            *(Txn((absent(key),), (Put(key, b"new"),)) for key in (occupied, free)),
        ]
        if not answered:
            it.proxy.cut(requests=False)
        writing = asyncio.ensure_future(it.writer.commit_nested([absent(it.key)], ops))
        if not answered:
            while await it.value() is None:
                assert not writing.done()
            await it.outside.put(free, b"changed meanwhile")
            it.proxy.reset()
            it.proxy.heal()
        committed = await writing
        found = await it.outside.get(it.key)
        assert found is not None
        assert (committed.revision, committed.nested) == (found.mod_revision, (False, True))


@pytest.mark.timeout_s(10)
async def test_an_unanswered_write_that_was_lost_is_committed_exactly_once(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        read_at = await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        it.proxy.cut(answers=False)
        writing = asyncio.ensure_future(it.writer.commit([modified_at(it.key, read_at)], [Put(it.key, b"2")]))
        await it.proxy.holding_request()
        it.proxy.reset()
        it.proxy.heal()
        revision = await writing
        found = await it.outside.get(it.key)
        assert found is not None
        assert (found.value, found.version, found.mod_revision) == (b"2", 2, revision)


@pytest.mark.parametrize("fate", ["done", "later"])
async def test_a_refusal_does_not_settle_what_was_sent_before_it_and_got_no_answer(
    etcd: EmbeddedEtcd, namespace: str, fate: Fate
) -> None:
    async with desk(etcd, namespace) as it:
        it.client.fates = [fate, "refused"]
        revision = await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        assert True not in await it.client.deliver_late()
        found = await it.outside.get(it.key)
        assert found is not None
        assert (found.version, found.mod_revision) == (1, revision)


@pytest.mark.parametrize("fate", ["done", "later"])
@pytest.mark.timeout_s(10)
async def test_a_refusal_that_lasts_leaves_the_caller_the_doubt_which_can_be_settled(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch, fate: Fate
) -> None:
    monkeypatch.setattr(fenced, "_REFUSED_FOR_S", 0.3)

    async with desk(etcd, namespace) as it:
        before = await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        it.client.fates, it.client.refusing = [fate], True
        with pytest.raises(AmbiguousWrite, match="permission denied"):
            await it.writer.commit([modified_at(it.key, before)], [Put(it.key, b"2")])
        it.leadership.check()
        it.client.refusing = False
        await it.writer.settle(it.key)
        settled = await it.outside.get(it.key)
        assert settled is not None
        assert settled.value == (b"2" if fate == "done" else b"1")
        assert True not in await it.client.deliver_late()
        assert await it.outside.get(it.key) == settled


@pytest.mark.timeout_s(5)
async def test_a_client_that_is_closed_leaves_the_doubt_at_once(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with desk(etcd, namespace) as it:
        it.client.fates, it.client.meanwhile = ["never"], it.client.close
        with pytest.raises(AmbiguousWrite, match="client is closed"):
            await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])


async def test_what_is_gone_needs_no_settling(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with desk(etcd, namespace) as it:
        await it.writer.settle(it.key)
        assert await it.value() is None


async def test_a_refusal_of_what_was_not_sent_before_is_raised_at_once(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        it.client.fates = ["refused"]
        with pytest.raises(RequestRefused):
            await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        assert await it.value() is None


@pytest.mark.timeout_s(10)
async def test_an_unanswered_write_that_somebody_else_forestalled_is_a_conflict(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        it.proxy.cut(answers=False)
        writing = asyncio.ensure_future(it.writer.commit([absent(it.key)], [Put(it.key, b"ours")]))
        await it.proxy.holding_request()
        await it.outside.put(it.key, b"theirs")
        it.proxy.reset()
        it.proxy.heal()
        with pytest.raises(Conflict):
            await writing
        assert await it.value() == b"theirs"


@pytest.mark.timeout_s(10)
async def test_a_write_waits_while_nobody_listens_and_is_committed_when_etcd_is_back(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        await it.proxy.refuse()
        writing = asyncio.ensure_future(it.writer.commit([absent(it.key)], [Put(it.key, b"1")]))
        done, _ = await asyncio.wait([writing], timeout=0.3)
        assert not done
        await it.proxy.accept()
        await writing
        assert await it.value() == b"1"


async def test_nothing_is_written_once_the_trust_deadline_has_passed(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        it.leadership.trusted_until = boottime()
        with pytest.raises(TermLost):
            await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        assert await it.value() is None


@pytest.mark.timeout_s(5)
async def test_a_write_that_waits_for_etcd_is_given_up_at_the_trust_deadline(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        await it.proxy.refuse()
        it.leadership.trusted_until = deadline = boottime() + 0.3
        with pytest.raises(TermLost):
            await it.writer.commit([absent(it.key)], [Put(it.key, b"1")])
        assert boottime() >= deadline
        await it.proxy.accept()
        assert await it.value() is None


@every_release("etcd")
async def test_the_fence_leaves_room_for_124_compares_and_125_puts_and_more_is_not_sent(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with desk(etcd, namespace) as it:
        keys = [f"{it.key}/{number}" for number in range(126)]
        compares = [absent(key) for key in keys]
        puts, deletions = [Put(key, b"") for key in keys], [Delete(key) for key in keys]
        await it.writer.commit(compares[:124], puts[:125])
        await it.writer.commit([absent(it.key)], deletions)
        assert not (await it.outside.range(f"{it.key}/")).kvs
        for too_many in ((compares[:125], puts[:1]), (compares[:1], puts)):
            with pytest.raises(ValueTooLarge, match="not sent"):
                await it.writer.commit(*too_many)
        it.leadership.check()
