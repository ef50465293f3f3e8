"""Members of etcd are replaced, and nobody tells the replicas: of the endpoints that they know, one is left."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from leaderjob.client import Client
from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.etcd.maintenance import check_health
from leaderjob.model.run import Outcome
from leaderjob.records.view import View
from tests.faults.harness import every_release, members
from tests.faults.harness.member import Member
from tests.faults.harness.replicas import Fleet, fleet
from tests.support.replicas import leads, served, told
from tests.support.streams import run_with_streams

TTL_S = 5


@pytest.fixture
def two(tmp_path: Path, binary: Path) -> Iterator[Fleet]:
    with (
        fleet(
            tmp_path,
            jobs="tests.support.jobs.results",
            ttl_s=TTL_S,
            names=("r1", "r2"),
            config='[overrides.value]\nschedule = "every 1s"\nparams = {value = 1}\n',
            binary=binary,
            spares=2,
        ) as pair,
        told(pair),
    ):
        pair.start()
        yield pair


async def test_a_member_that_was_removed_and_does_not_know_it_is_named(tmp_path: Path) -> None:
    async with members(tmp_path, spares=1) as etcd:
        unaware, *_ = await etcd.followers()
        known = etcd.endpoints_from(unaware)
        assert await warnings_of(known) == []
        # It listens, has its data, and takes itself for a member.
        await unaware.link.cut(clients=False)
        await etcd.replace(unaware)
        while (await unaware.status()).leader:
            await asyncio.sleep(0.1)
        (warning,) = [line.replace(unaware.endpoint, "HERE") for line in await warnings_of(known)]
    assert "etcd at HERE is a member that was removed from the cluster" in warning
    assert "in etcd.endpoints" in warning


async def test_a_member_without_a_leader_and_one_of_another_cluster_are_not_said_to_have_been_removed(
    tmp_path: Path,
) -> None:
    async with (
        members(tmp_path / "three") as etcd,
        EmbeddedEtcd(tmp_path / "another", fsync=False) as another,
    ):
        lonely, *others = await etcd.followers()
        await lonely.link.cut(clients=False)
        while (await lonely.status()).leader:
            await asyncio.sleep(0.1)
        ours = [lonely.endpoint, others[0].endpoint]
        # Whichever is asked first for its members: the other cluster's knows none of ours.
        orders = ([*ours, another.endpoint], [another.endpoint, *ours])
        assert [(await check_health(Etcd, endpoints)).removed for endpoints in orders] == [
            frozenset(),
            frozenset(),
        ]


@pytest.mark.slow
@every_release
def test_a_leader_keeps_office_while_members_are_replaced_until_one_of_its_endpoints_is_left(
    two: Fleet,
) -> None:
    known, leader, token = two.etcd.endpoints, two.leader(), two.token()
    unaware, dead, left = two.etcd.every
    lead_elsewhere(two, left)
    # It never hears that it was removed: it listens, has its data, and takes itself for a member.
    two.run(unaware.link.cut(clients=False))
    two.run(two.etcd.replace(unaware))
    publishes(two)
    dead.kill()
    two.run(two.etcd.replace(dead))
    publishes(two)
    first, second = run_with_streams(warnings_of(known))
    assert f"etcd at {dead.endpoint} does not answer" in first
    assert f"etcd at {unaware.endpoint} is a member that was removed" in second
    assert (leads(two.view()), two.token()) == (leader.name, token)
    assert leader.said("term_ended") == []
    outcomes = {stored.record.outcome for stored in two.view().runs("value")}
    assert outcomes <= {None, Outcome.SUCCEEDED, Outcome.SKIPPED}
    (follower,) = (replica for replica in two.every() if replica is not leader)
    follower.terminate()
    two.start(follower.name)


def lead_elsewhere(two: Fleet, member: Member) -> None:
    """Let that one lead etcd: whom it loses is then no leader."""
    leader = two.run(two.etcd.leader())
    if leader is not member:
        leader.etcdctl("move-leader", f"{member.id:x}")


def publishes(two: Fleet) -> None:
    """Return when what was run from now on is published and served by all."""
    two.endpoint = ",".join(two.etcd.endpoints)
    now = utcnow()

    def served_by_all(view: View) -> bool:
        new = {run.version for stored in view.runs("value") if (run := stored.record).created > now}
        return all(served(view, name, "value") in new - {None} for name in two.replicas)

    two.until("what was run since is published and served", served_by_all)


async def warnings_of(endpoints: Sequence[str]) -> list[str]:
    """What ``leaderjob status`` warns of, for whoever has these endpoints."""
    async with Client(endpoints) as client:
        warnings: list[str] = (await client.status())["etcd"]["warnings"]
        return warnings
