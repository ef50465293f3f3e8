"""Membership against a real etcd: the record of a replica is there as long as the replica is, and only once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster.identity import DuplicateReplica, Identity
from leaderjob.cluster.liveness_port import LivenessListener
from leaderjob.cluster.membership import Membership
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import SettingsError
from leaderjob.etcd import AmbiguousWrite, Compare, Etcd, Op, TxnResult
from leaderjob.model.member import Holding, Member, Role
from leaderjob.recipes import Session
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import Stored
from tests.support.candidates import TIMING
from tests.support.cuttable import Cuttable


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

    def __init__(self, client: Etcd, keys: Keys, member: Member, directory: Path, *, fed_by: Etcd) -> None:
        self.keys = keys
        self.feed = Feed(fed_by, keys)
        directory.mkdir(exist_ok=True)
        self.identity = Identity(client, keys.member(member.replica), member.incarnation, directory)
        self.identity.note()
        self.membership = Membership(client, keys, self.feed, member, self.identity)

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
    client: Etcd,
    namespace: str,
    record: Member,
    directory: Path,
    *,
    fed_by: Etcd | None = None,
    claimed: bool = False,
) -> AsyncIterator[Joined]:
    """:param directory: the state directory. :param claimed: as a replica does before anything else."""
    it = Joined(client, Keys(namespace), record, directory, fed_by=fed_by or client)
    if claimed:
        await it.membership.refuse_duplicate()
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


async def test_a_second_live_replica_with_the_same_id_is_refused_and_told_where_the_first_one_is(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with (
        listener("first") as alive,
        Etcd([etcd.endpoint]) as client,
        joined(client, namespace, member("first", f"127.0.0.1:{alive.port}"), tmp_path / "1") as it,
    ):
        await it.stored()
        await it.membership.refuse_duplicate()  # of itself, never
        second = Joined(client, it.keys, member("second", "127.0.0.1:1"), tmp_path / "2", fed_by=client)
        with pytest.raises(DuplicateReplica, match=r"'a'.*host some-host with pid 4321.*--id") as refused:
            await second.membership.refuse_duplicate()
        assert refused.value.exit_code == 2
        # A state directory that was copied from the first one is no proof that it is gone.
        copied = Joined(client, it.keys, member("third", "127.0.0.1:1"), tmp_path / "1", fed_by=client)
        with pytest.raises(DuplicateReplica):
            await copied.membership.refuse_duplicate()


@pytest.mark.parametrize("instead", ["nobody", "another process", "silence"])
@pytest.mark.timeout_s(10)
async def test_who_starts_again_on_its_own_state_directory_takes_the_record_over_at_once(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.cluster.identity._DIAL_TIMEOUT_S", 0.1)

    keys = Keys(namespace)
    async with (
        Etcd([etcd.endpoint]) as client,
        listener("third") as other,
        Cuttable(f"127.0.0.1:{other.port}") as silent,
    ):
        silent.cut()
        async with listener("first") as dying:
            died_at = f"127.0.0.1:{dying.port}"
        address = {"nobody": died_at, "silence": silent.endpoint}.get(instead, f"127.0.0.1:{other.port}")
        first = Joined(client, keys, member("first", address), tmp_path, fed_by=client)
        lease_id, _ = await client.grant(60)
        await client.put(first.keys.member("a"), first.membership.member.to_bytes(), lease=lease_id)
        second = member("second", "127.0.0.1:1")
        async with joined(client, namespace, second, tmp_path, claimed=True) as it:
            while (stored := await it.stored()).record.incarnation != "second":
                await it.feed.changed()
            await client.revoke(lease_id)
            await client.put("/later", b"")
            assert await client.get(keys.member("a")) is not None, "it went with the dead one's lease"
            assert stored.lease != lease_id


@pytest.mark.parametrize("instead", ["nobody", "another process"])
@pytest.mark.timeout_s(10)
async def test_elsewhere_the_record_of_who_does_not_answer_is_taken_over_when_its_lease_has_run_out(
    etcd: EmbeddedEtcd,
    namespace: str,
    tmp_path: Path,
    instead: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A firewall that rejects looks as if nobody listened, and a forwarded port as if somebody else did."""

    keys = Keys(namespace)
    async with Etcd([etcd.endpoint]) as client, listener("third") as other:
        async with listener("first") as dying:
            died_at = f"127.0.0.1:{dying.port}"
        address = died_at if instead == "nobody" else f"127.0.0.1:{other.port}"
        lease_id, _ = await client.grant(2)
        await client.put(keys.member("a"), member("first", address).to_bytes(), lease=lease_id)
        second = Joined(client, keys, member("second", "127.0.0.1:1"), tmp_path, fed_by=client)
        await second.membership.refuse_duplicate()
        assert await client.get(keys.member("a")) is None
    (told,) = [record for record in caplog.records if record.getMessage() == "id_in_doubt"]
    assert told.fields["host"] == "some-host"  # type: ignore[attr-defined]


@pytest.mark.parametrize("ttl_s", [2, 60])
@pytest.mark.timeout_s(10)
async def test_elsewhere_who_keeps_the_lease_alive_is_alive_though_it_cannot_be_reached(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, ttl_s: int
) -> None:
    keys = Keys(namespace)
    async with Etcd([etcd.endpoint]) as client:
        lease_id, granted_s = await client.grant(ttl_s)
        await client.put(keys.member("a"), member("first", "127.0.0.1:1").to_bytes(), lease=lease_id)
        second = Joined(client, keys, member("second", "127.0.0.1:1"), tmp_path, fed_by=client)
        claiming = asyncio.ensure_future(second.membership.refuse_duplicate())
        while not claiming.done():
            await asyncio.wait([claiming], timeout=min(1.5, granted_s / 3))
            await client.keep_alive(lease_id, timeout_s=1.0)
        with pytest.raises(DuplicateReplica, match=r"host some-host with pid 4321.*keeps its lease alive"):
            await claiming


@pytest.mark.timeout_s(10)
async def test_of_two_that_start_at_the_same_time_one_is_refused(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """Both have looked, and nobody was there."""

    async with (
        listener("first") as one,
        listener("second") as two,
        Etcd([etcd.endpoint]) as client,
        Etcd([etcd.endpoint]) as others,
    ):
        first, second = (
            member(alive, f"127.0.0.1:{port}") for alive, port in (("first", one.port), ("second", two.port))
        )
        late = Joined(others, Keys(namespace), second, tmp_path / "2", fed_by=others)
        await late.membership.refuse_duplicate()
        async with (
            joined(client, namespace, first, tmp_path / "1", claimed=True) as it,
            await Session.open(others, TIMING) as session,
        ):
            before = await it.stored()
            await late.membership.keep(session)
            assert "host some-host with pid 4321" in str(await late.membership.refused())
            found = await client.get(before.key)
            assert found is not None
            assert found.mod_revision == before.mod_revision


@pytest.mark.timeout_s(10)
async def test_who_finds_its_record_taken_by_a_live_process_is_refused(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """It was stopped for longer than its TTL, say, and another one was started in its place."""

    async with (
        listener("second") as alive,
        Etcd([etcd.endpoint]) as client,
        joined(client, namespace, member("first", "127.0.0.1:1"), tmp_path) as it,
    ):
        before = await it.stored()
        taken = member("second", f"127.0.0.1:{alive.port}").to_bytes()
        await client.put(before.key, taken, lease=before.lease)
        assert isinstance(await it.membership.refused(), DuplicateReplica)
        found = await client.get(before.key)
        assert found is not None
        assert found.value == taken


def test_a_state_directory_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / ".tmp-incarnations").mkdir()
    identity = Identity(Etcd(["127.0.0.1:1"]), "/key", "first", tmp_path)
    with pytest.raises(SettingsError, match=f"{tmp_path}/incarnations cannot be written: Is a directory"):
        identity.note()


@pytest.mark.timeout_s(10)
async def test_a_record_that_cannot_be_read_does_not_keep_a_replica_from_starting(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        await client.put(Keys(namespace).member("a"), b"{")
        async with joined(client, namespace, member("first", "127.0.0.1:1"), tmp_path) as it:
            await it.membership.refuse_duplicate()
            assert (await it.stored()).record.incarnation == "first"


@pytest.mark.timeout_s(10)
async def test_a_record_that_somebody_deletes_is_written_again_on_the_same_lease(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with (
        Etcd([etcd.endpoint]) as client,
        joined(client, namespace, member("first", "127.0.0.1:1"), tmp_path) as it,
    ):
        before = await it.stored()
        await client.delete(before.key)
        again = await it.stored(after=before.mod_revision)
        assert (again.record, again.lease) == (before.record, before.lease)
        assert again.create_revision > before.mod_revision


@pytest.mark.timeout_s(10)
async def test_the_record_is_written_once_and_then_on_change_only(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with (
        Etcd([etcd.endpoint]) as client,
        joined(client, namespace, member("first", "127.0.0.1:1"), tmp_path) as it,
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


@pytest.mark.timeout_s(10)
async def test_a_view_that_lags_behind_does_not_make_it_write_again(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with (
        Cuttable(etcd.endpoint) as slow,
        Etcd([etcd.endpoint]) as client,
        Etcd([slow.endpoint]) as lagging,
        joined(client, namespace, member("first", "127.0.0.1:1"), tmp_path, fed_by=lagging) as it,
    ):
        slow.delay_s = 0.05
        stored = await it.stored()
        found = await client.get(stored.key)
        assert found is not None
        assert found.version == 1


class Forgetful(Etcd):
    """Gets no answer to its first write, which is done, but only after the second one."""

    late: tuple[Sequence[Compare], Sequence[Op]] | None = None

    async def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Op] = (),
        failure: Sequence[Op] = (),
        *,
        repeatable: bool = False,
    ) -> TxnResult:
        if self.late is None:
            self.late = (compares, success)
            raise AmbiguousWrite("127.0.0.1:1", "no answer in time")
        return await super().txn(compares, success, failure, repeatable=repeatable)

    async def land(self) -> bool:
        assert self.late is not None
        return (await super().txn(*self.late)).succeeded


@pytest.mark.timeout_s(10)
async def test_an_earlier_write_that_got_no_answer_cannot_land_after_the_one_that_followed(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.cluster.membership._RETRY_PAUSE_S", 0.05)

    async with (
        Forgetful([etcd.endpoint]) as client,
        joined(client, namespace, member("first", "127.0.0.1:1"), tmp_path) as it,
    ):
        await it.feed.changed()
        it.membership.set(role=Role.LEADER)
        current = await it.stored()
        assert current.record.role is Role.LEADER
        assert not await client.land()
        found = await client.get(current.key)
        assert found is not None
        assert found.mod_revision == current.mod_revision


async def test_the_record_goes_with_the_session(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> None:
    async with Etcd([etcd.endpoint]) as client:
        async with joined(client, namespace, member("first", "127.0.0.1:1"), tmp_path) as it:
            await it.stored()
        assert await client.get(it.keys.member("a")) is None
