"""Who advertises an address that nobody can reach is told of by the others, and never judged by it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster import liveness
from leaderjob.cluster.identity import Identity
from leaderjob.cluster.liveness_port import LivenessListener
from leaderjob.cluster.membership import Membership
from leaderjob.cluster.reachability import Reachability
from leaderjob.doctor.members import check_members
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.etcd import Etcd
from leaderjob.model.member import Member, Priority, Role
from leaderjob.recipes import Session
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys
from leaderjob.settings import EtcdSettings
from tests.support.candidates import TIMING
from tests.support.cuttable import Cuttable
from tests.support.replicas import SHORT_TTL_S, Cluster, leads, told, wait_for_line
from tests.support.streams import run_with_streams

_PATIENCE_S = 0.2


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="leaderjob")
    monkeypatch.setattr("leaderjob.cluster.reachability._LEASES_END_LATE_BY_S", 0.0)
    monkeypatch.setattr("leaderjob.cluster.reachability._DIAL_AGAIN_S", 0.02)
    monkeypatch.setattr("leaderjob.cluster.reachability._LOOK_AGAIN_S", 0.02)
    monkeypatch.setattr("leaderjob.cluster.liveness._CONNECT_TIMEOUT_S", 0.1)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were dialled, in that order."""
    found: list[str] = []
    dial = liveness._dial

    async def noted(address: str) -> Any:
        found.append(address)
        return await dial(address)

    monkeypatch.setattr(liveness, "_dial", noted)
    return found


def member(replica: str, address: str, priority: Priority = Priority.ORDINARY) -> Member:
    return Member(
        replica=replica,
        incarnation=f"incarnation of {replica}",
        role=Role.FOLLOWER,
        release="1",
        host="some-host",
        pid=4321,
        started=utcnow(),
        addresses={"liveness": address},
        priority=priority,
    )


class Looking:
    """A replica that looks whether the others can be reached."""

    def __init__(self, client: Etcd, keys: Keys, feed: Feed) -> None:
        self.client = client
        self.keys = keys
        self.feed = feed

    async def joins(self, other: Member) -> None:
        await self.client.put(self.keys.member(other.replica), other.to_bytes())

    async def says(self, unreachable: dict[str, str]) -> None:
        """Return when its own record names these."""

        def is_said(view: Any) -> bool:
            here = view.members.get("here")
            return here is not None and here.record.unreachable == unreachable

        await self.feed.until(is_said)


@asynccontextmanager
async def looking(endpoint: str, namespace: str, directory: Path) -> AsyncIterator[Looking]:
    keys = Keys(namespace)
    async with Etcd([endpoint]) as client, await Session.open(client, TIMING) as session:
        feed, own = Feed(client, keys), member("here", "127.0.0.1:1")
        identity = Identity(client, keys.member("here"), own.incarnation, directory)
        membership = Membership(client, keys, feed, own, identity)
        reachability = Reachability(feed, membership, ttl_s=_PATIENCE_S)
        parts = (feed.run(), membership.keep(session), reachability.run())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await feed.until(lambda view: "here" in view.members)
            yield Looking(client, keys, feed)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                assert task.cancelled()


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == name]  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["refused", "silent", "another one"])
@pytest.mark.timeout_s(10)
async def test_a_member_that_lives_and_cannot_be_reached_is_told_of_once_with_what_to_do(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async with (
        LivenessListener("other", "of somebody else", "127.0.0.1") as other,
        Cuttable(f"127.0.0.1:{other.port}") as silent,
        looking(etcd.endpoint, namespace, tmp_path) as here,
    ):
        silent.cut()
        nobody = f"127.0.0.1:{free_ports(1)[0]}"
        address = {"refused": nobody, "silent": silent.endpoint}.get(how, f"127.0.0.1:{other.port}")
        began = time.monotonic()
        await here.joins(member("far", address))
        await here.says({"far": address})
        assert time.monotonic() - began >= _PATIENCE_S, "it might have died a moment ago"
    (warning,) = events(caplog, "member_unreachable")
    assert (warning["member"], warning["address"]) == ("far", address)
    words = {
        "refused": "connection refused",
        "silent": "no answer within",
        "another one": "of somebody else",
    }
    assert words[how] in warning["reason"]
    assert "correct its replica.advertise" in warning["reason"]
    assert "takeover_fast = false" in warning["reason"]


@pytest.mark.timeout_s(10)
async def test_a_record_whose_process_died_a_moment_ago_is_no_reason_to_warn(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, dialled: list[str]
) -> None:
    async with looking(etcd.endpoint, namespace, tmp_path) as here:
        await here.joins(member("dead", "127.0.0.1:1"))
        while len(dialled) < 3:
            await asyncio.sleep(0.01)
        await here.client.delete(here.keys.member("dead"))
        await here.joins(member("far", "127.0.0.1:2"))
        await here.says({"far": "127.0.0.1:2"})
    assert [told["member"] for told in events(caplog, "member_unreachable")] == ["far"]


@pytest.mark.timeout_s(10)
async def test_a_member_that_answered_once_is_not_dialled_again_though_it_dies(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, dialled: list[str]
) -> None:
    async with looking(etcd.endpoint, namespace, tmp_path) as here:
        async with LivenessListener("near", "incarnation of near", "127.0.0.1") as near:
            address = f"127.0.0.1:{near.port}"
            await here.joins(member("near", address))
            while not dialled:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)  # so that it has got its answer
        await here.joins(member("far", "127.0.0.1:2"))
        await here.says({"far": "127.0.0.1:2"})
    assert dialled.count(address) == 1
    assert [told["member"] for told in events(caplog, "member_unreachable")] == ["far"]


@pytest.mark.timeout_s(10)
async def test_it_is_taken_back_when_the_address_answers_after_all(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    async with looking(etcd.endpoint, namespace, tmp_path) as here:
        await here.joins(member("far", address))
        await here.says({"far": address})
        async with LivenessListener("far", "incarnation of far", "127.0.0.1", port):
            await here.says({})
    (told_of,) = events(caplog, "member_reachable")
    assert told_of["member"] == "far"


@pytest.mark.timeout_s(10)
async def test_an_observer_need_not_be_reached(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, dialled: list[str]
) -> None:
    async with looking(etcd.endpoint, namespace, tmp_path) as here:
        await here.joins(member("observer", "127.0.0.1:1", Priority.OBSERVER))
        await here.joins(member("far", "127.0.0.1:2"))
        await here.says({"far": "127.0.0.1:2"})
    assert set(dialled) == {"127.0.0.1:2"}


def test_a_leader_at_an_address_that_leads_nowhere_is_told_of_everywhere_and_loses_office_by_its_ttl_only(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """All of 127.0.0.0/8 is this machine, and where nobody listens it refuses, as that of a dead process does."""
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path,
            jobs="tests.support.jobs.results",
            names=("lost", "r2"),
            ttl_s=SHORT_TTL_S,
        ) as two,
        told(two),
    ):
        two["lost"].settings["LEADERJOB_REPLICA_ADVERTISE"] = "127.9.9.9:7070"
        two.start("lost")
        two.start("r2")
        assert leads(two.view()) == "lost"
        wait_for_line(two["r2"], "member_unreachable member=lost address=127.9.9.9:")
        two.until("it is told to all", lambda view: "lost" in view.members["r2"].record.unreachable)
        said = two.cli("status")
        assert "warning: r2 cannot reach lost at its liveness address 127.9.9.9:" in said.stderr
        members = {each["replica"]: each["unreachable_from"] for each in two.status()["members"]}
        assert members == {"lost": ["r2"], "r2": []}
        found = run_with_streams(
            check_members(EtcdSettings(endpoints=(etcd.endpoint,), namespace=namespace)), timeout_s=10
        )
        assert [(each.subject, str(each.verdict)) for each in found] == [
            ("replica lost", "warning"),
            ("replica r2", "ok"),
        ]
        two["lost"].kill()
        killed_at = time.monotonic()
        two.next_leader("lost")
        assert time.monotonic() - killed_at > SHORT_TTL_S / 2
        assert "verdict" not in two["r2"].log()
