"""The feed against a real etcd: its view is what is stored, and what cannot be read does no harm."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Delete, Etcd, Op, Put
from leaderjob.model.history import History
from leaderjob.model.job import JobSpec
from leaderjob.model.member import Candidate, Member, Role
from leaderjob.model.run import Progress
from leaderjob.recipes import Election
from leaderjob.records.feed import Feed, read_feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.narrate import Narrator
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from tests.support.candidates import Place, campaigning
from tests.support.cuttable import Cuttable
from tests.support.streams import run_with_streams

NOW = utcnow()


def member(replica: str, incarnation: str = "1") -> Member:
    return Member(
        replica=replica,
        incarnation=incarnation,
        role=Role.FOLLOWER,
        release="1",
        host="host",
        pid=1,
        started=NOW,
        addresses={},
    )


VALUES = {
    "members/a": [member("a").to_bytes(), member("a", "2").to_bytes()],
    "members/b": [member("b").to_bytes()],
    "election/1f": [Candidate(replica="a", incarnation="1", addresses={}, since=NOW).to_bytes()],
    "election/not-hex": [b"foreign"],
    "jobs/index/spec": [JobSpec(name="index", reference="m:f").to_bytes()],
    "progress/index/r1/1": [Progress(done=done, total=9).to_bytes() for done in range(3)],
    "meta/history": [History(id="h").to_bytes()],
    "none/of/ours": [b"anything"],
}
CORRUPT = (b"", b"{", b"[]", b"{}", b"\xff\xfe", b"foreign")

put = st.sampled_from(sorted(VALUES)).flatmap(
    lambda key: st.tuples(st.just(key), st.sampled_from([*VALUES[key], *CORRUPT]))
)
deletion = st.tuples(st.sampled_from(sorted(VALUES)), st.none())
transaction = st.lists(put | deletion, min_size=1, max_size=3, unique_by=lambda change: change[0])
reset = st.just("reset")
history = st.lists(transaction | reset, min_size=1, max_size=12)


def operations(keys: Keys, changes: list[tuple[str, bytes | None]]) -> list[Op]:
    return [
        Delete(keys.root + key) if value is None else Put(keys.root + key, value) for key, value in changes
    ]


def state(view: View) -> dict[str, Any]:
    return {
        "records": view.records,
        "candidates": view.candidates,
        "quarantined": {key: entry.kv for key, entry in view.quarantined.items()},
    }


@asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[Feed]:
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.wait([task])


@given(history)
@settings(max_examples=15, deadline=None)
def test_at_rest_the_view_is_what_a_range_read_shows(etcd: EmbeddedEtcd, history: list[Any]) -> None:
    keys = Keys(f"test-{secrets.token_hex(6)}")

    async def main() -> None:
        async with (
            Cuttable(etcd.endpoint) as proxy,
            Etcd([proxy.endpoint]) as client,
            Etcd([etcd.endpoint]) as writer,
            running(Feed(client, keys)) as feed,
        ):
            await feed.changed()
            for step in history:
                if step == "reset":
                    proxy.reset()
                else:
                    await writer.txn((), operations(keys, step))
            last = await writer.put(f"{keys.root}sign/of/the/end", b"")
            await feed.until(lambda view: view.revision >= last)
            read = View()
            async with aclosing(read_feed(writer, keys, read)) as batches:
                await anext(batches)
            assert state(feed.view) == state(read)

    run_with_streams(main())


@given(history)
@settings(max_examples=10, deadline=None)
def test_the_changes_one_after_the_other_make_the_view(etcd: EmbeddedEtcd, history: list[Any]) -> None:
    keys = Keys(f"test-{secrets.token_hex(6)}")

    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:
            view = View()
            folded: dict[Any, Stored[Any]] = {}
            async with aclosing(read_feed(client, keys, view)) as batches:
                await anext(batches)
                for step in history:
                    if step == "reset":
                        continue
                    result = await client.txn((), [*operations(keys, step), Put(f"{keys.root}sign", b"")])
                    while view.revision < result.revision:
                        for change in (await anext(batches)).changes:
                            assert folded.pop(change.place, None) == change.before
                            if change.now is not None:
                                folded[change.place] = change.now
                    stored = {
                        (kind, names): entry
                        for kind, entries in view.records.items()
                        for names, entry in entries.items()
                    }
                    assert {(place.kind, place.names): entry for place, entry in folded.items()} == stored

    run_with_streams(main())


@pytest.mark.parametrize("repair", ["repaired", "deleted"])
async def test_a_corrupt_value_is_quarantined_until_it_is_repaired_and_the_rest_goes_on(
    etcd: EmbeddedEtcd, namespace: str, repair: str
) -> None:
    keys = Keys(namespace)
    async with Etcd([etcd.endpoint]) as client, running(Feed(client, keys)) as feed:
        await feed.changed()
        broken, sound = keys.member("broken"), keys.member("sound")
        await client.put(broken, member("broken").to_bytes())
        await client.put(broken, b'{"replica": "broken"}')
        revision = await client.put(sound, member("sound").to_bytes())
        view = await feed.until(lambda view: view.revision >= revision)
        assert list(view.members) == ["sound"]
        assert list(view.quarantined) == [broken]
        assert "incarnation" in view.quarantined[broken].reason
        assert view.quarantined[broken].place.kind is Kind.MEMBER
        if repair == "repaired":
            await client.put(broken, member("broken").to_bytes())
        else:
            await client.delete(broken)
        view = await feed.until(lambda view: not view.quarantined)
        assert sorted(view.members) == (["broken", "sound"] if repair == "repaired" else ["sound"])


async def test_the_feed_begins_once_etcd_is_there(etcd: EmbeddedEtcd, namespace: str) -> None:
    keys = Keys(namespace)
    async with (
        Etcd([etcd.endpoint]) as outside,
        Cuttable(etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
    ):
        await outside.put(keys.member("a"), member("a").to_bytes())
        await proxy.refuse()
        async with running(Feed(client, keys)) as feed:
            await feed.changed(timeout_s=0.2)
            assert not feed.view.members
            await proxy.accept()
            view = await feed.until(lambda view: bool(view.members))
            assert list(view.members) == ["a"]


@pytest.mark.timeout_s(10)
async def test_the_story_of_a_handover_is_that_one_leader_is_lost_and_then_another_elected(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    def candidate(replica: str, *, leads: bool) -> bytes:
        return Candidate(
            replica=replica, incarnation="1", addresses={}, since=NOW, leading_since=NOW if leads else None
        ).to_bytes()

    keys = Keys(namespace)
    place = Place(etcd.endpoint, namespace)
    place.prefix = keys.election
    story = asyncio.Queue[dict[str, Any]]()

    async def follow_story() -> None:
        view, narrator = View(), Narrator()
        async with Etcd([etcd.endpoint]) as client, aclosing(read_feed(client, keys, view)) as batches:
            async for batch in batches:
                for event in narrator.tell(batch, view):
                    story.put_nowait(event)

    async def told() -> tuple[str, str, int]:
        event = await story.get()
        return event["event"], event["replica"], event["token"]

    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, _),
    ):
        following = asyncio.create_task(follow_story())
        one = await first.campaign(session_1, candidate("one", leads=False))
        await first.proclaim(one, candidate("one", leads=True))
        assert await told() == ("leader_elected", "one", one.term.token)
        async with campaigning(second, session_2, candidate("two", leads=False)) as winning:
            await place.until(2)
            await first.resign(one)
            two = await winning
            assert await told() == ("leader_lost", "one", one.term.token)
            await second.proclaim(two, candidate("two", leads=True))
            assert await told() == ("leader_elected", "two", two.term.token)
        following.cancel()
        await asyncio.wait([following])


async def test_a_foreign_leader_is_in_the_view_with_what_it_proclaims(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    keys = Keys(namespace)
    place = Place(etcd.endpoint, namespace)
    async with place.candidate() as (_, session, client), running(Feed(client, keys)) as feed:
        await Election.below(client, keys.election).campaign(session, b"from far away")
        view = await feed.until(lambda view: view.leader_key is not None)
        assert view.leader_key is not None
        assert view.leader_key.value == b"from far away"
        assert view.leader is None
