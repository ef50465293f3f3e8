"""Membership against a real etcd: the record of a replica is there as long as the replica is, and only once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster.liveness import LivenessListener
from leaderjob.cluster.membership import DuplicateReplica, Membership
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import AmbiguousWrite, Etcd
from leaderjob.model.member import Holding, Member, Role
from leaderjob.recipes import Session
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import Stored
from tests.support.candidates import TIMING
from tests.support.cuttable import Cuttable
from tests.support.streams import run_with_streams


def member(incarnation: str, liveness: str) -> Member:
    return Member(
        replica="a",
        incarnation=incarnation,
        role=Role.FOLLOWER,
        release="1",
        host="some-host",
        pid=4321,
        started=utcnow(),
        addresses={"liveness": liveness},
    )


class Joined:
    """A replica's membership, kept on a session, and the feed that it works with."""

    def __init__(self, client: Etcd, keys: Keys, member: Member, *, fed_by: Etcd) -> None:
        self.keys = keys
        self.feed = Feed(fed_by, keys)
        self.membership = Membership(client, keys, self.feed, member)

    async def stored(self, *, after: int = 0) -> Stored[Member]:
        """The record, as soon as one that was written after revision ``after`` is there."""

        def is_there(stored: Stored[Member] | None) -> bool:
            return stored is not None and stored.mod_revision > after

        view = await self.feed.until(lambda view: is_there(view.get(Kind.MEMBER, "a")))
        found = view.get(Kind.MEMBER, "a")
        assert found is not None
        return found


@asynccontextmanager
async def joined(
    client: Etcd, namespace: str, record: Member, *, fed_by: Etcd | None = None
) -> AsyncIterator[Joined]:
    it = Joined(client, Keys(namespace), record, fed_by=fed_by or client)
    async with await Session.open(client, TIMING) as session:
        tasks = [asyncio.create_task(it.feed.run()), asyncio.create_task(it.membership.keep(session))]
        try:
            yield it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def listener(incarnation: str) -> LivenessListener:
    return LivenessListener("a", incarnation, "127.0.0.1")


def test_a_second_live_replica_with_the_same_id_is_refused_and_told_where_the_first_one_is(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        async with (
            listener("first") as alive,
            Etcd([etcd.endpoint]) as client,
            joined(client, namespace, member("first", f"127.0.0.1:{alive.port}")) as it,
        ):
            await it.stored()
            await it.membership.refuse_duplicate()  # of itself, never
            second = Membership(client, it.keys, it.feed, member("second", "127.0.0.1:1"))
            with pytest.raises(DuplicateReplica, match=r"'a'.*host some-host with pid 4321.*--id"):
                await second.refuse_duplicate()

    run_with_streams(main())


@pytest.mark.parametrize("instead", ["nobody", "another process"])
def test_the_record_of_a_dead_replica_is_taken_over(etcd: EmbeddedEtcd, namespace: str, instead: str) -> None:
    async def main() -> None:
        keys = Keys(namespace)
        async with Etcd([etcd.endpoint]) as client, listener("third") as other:
            async with listener("first") as dying:
                died_at = f"127.0.0.1:{dying.port}"
            address = died_at if instead == "nobody" else f"127.0.0.1:{other.port}"
            lease_id, _ = await client.grant(60)
            await client.put(keys.member("a"), member("first", address).to_bytes(), lease=lease_id)
            async with joined(client, namespace, member("second", "127.0.0.1:1")) as it:
                await it.membership.refuse_duplicate()
                while (stored := await it.stored()).record.incarnation != "second":
                    await it.feed.changed()
                await client.revoke(lease_id)
                await client.put("/later", b"")
                assert await client.get(keys.member("a")) is not None, "it went with the dead one's lease"
                assert stored.lease != lease_id

    run_with_streams(main(), timeout_s=10)


def test_a_record_that_cannot_be_read_does_not_keep_a_replica_from_starting(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:
            await client.put(Keys(namespace).member("a"), b"{")
            async with joined(client, namespace, member("first", "127.0.0.1:1")) as it:
                await it.membership.refuse_duplicate()
                assert (await it.stored()).record.incarnation == "first"

    run_with_streams(main(), timeout_s=10)


def test_a_record_that_somebody_deletes_is_written_again_on_the_same_lease(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        async with (
            Etcd([etcd.endpoint]) as client,
            joined(client, namespace, member("first", "127.0.0.1:1")) as it,
        ):
            before = await it.stored()
            await client.delete(before.key)
            again = await it.stored(after=before.mod_revision)
            assert (again.record, again.lease) == (before.record, before.lease)
            assert again.create_revision > before.mod_revision

    run_with_streams(main(), timeout_s=10)


def test_the_record_is_written_once_and_then_on_change_only(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
        async with (
            Etcd([etcd.endpoint]) as client,
            joined(client, namespace, member("first", "127.0.0.1:1")) as it,
        ):
            written = [await it.stored()]
            it.membership.hold("index", Holding(active=3, digest="d"))
            written.append(await it.stored(after=written[-1].mod_revision))
            it.membership.hold("index", Holding(active=3, digest="d"))
            it.membership.set(role=Role.FOLLOWER)
            it.membership.set(role=Role.LEADER)
            written.append(await it.stored(after=written[-1].mod_revision))
            assert written[1].record.holds["index"].active == 3
            assert written[2].record.role is Role.LEADER
            found = await client.get(written[0].key)
            assert found is not None
            assert found.version == 3

    run_with_streams(main(), timeout_s=10)


def test_a_view_that_lags_behind_does_not_make_it_write_again(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
        async with (
            Cuttable(etcd.endpoint) as slow,
            Etcd([etcd.endpoint]) as client,
            Etcd([slow.endpoint]) as lagging,
            joined(client, namespace, member("first", "127.0.0.1:1"), fed_by=lagging) as it,
        ):
            slow.delay_s = 0.05
            stored = await it.stored()
            found = await client.get(stored.key)
            assert found is not None
            assert found.version == 1

    run_with_streams(main(), timeout_s=10)


class Forgetful(Etcd):
    """Gets no answer to its first put, which is done, but only after the second one."""

    late: tuple[str, bytes, int] | None = None

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        if self.late is None:
            self.late = (key, value, lease)
            raise AmbiguousWrite("127.0.0.1:1", "no answer in time")
        return await super().put(key, value, lease=lease)

    async def land(self) -> None:
        assert self.late is not None
        key, value, lease = self.late
        await super().put(key, value, lease=lease)


def test_an_earlier_write_that_lands_late_does_not_stay(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.cluster.membership._RETRY_PAUSE_S", 0.05)

    async def main() -> None:
        async with (
            Forgetful([etcd.endpoint]) as client,
            joined(client, namespace, member("first", "127.0.0.1:1")) as it,
        ):
            await it.feed.changed()
            it.membership.set(role=Role.LEADER)
            current = await it.stored()
            assert current.record.role is Role.LEADER
            await client.land()
            stale = await it.stored(after=current.mod_revision)
            assert stale.record.role is Role.FOLLOWER
            mended = await it.stored(after=stale.mod_revision)
            assert mended.record.role is Role.LEADER

    run_with_streams(main(), timeout_s=10)


def test_the_record_goes_with_the_session(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:
            async with joined(client, namespace, member("first", "127.0.0.1:1")) as it:
                await it.stored()
            assert await client.get(it.keys.member("a")) is None

    run_with_streams(main())
