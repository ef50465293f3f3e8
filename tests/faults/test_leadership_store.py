"""etcd is full, has no quorum or loses its leader: whoever leads keeps office while it may, and works on after."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import pytest

from leaderjob.model.run import Outcome, Run
from leaderjob.records.view import View
from tests.faults.harness.beating import lives, never_two
from tests.faults.harness.member import Member
from tests.faults.harness.replicas import Fleet, MachineReplica, fleet
from tests.faults.harness.store import disarm, fill_quota
from tests.support.replicas import leads, told, wait_for

_QUOTA_BYTES = 16 << 20
_TTL_S = 5
"""The shortest with which leadership is promised to outlast the death of an etcd leader."""

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("effects") / "ticks"


def ticking(directory: Path, effects: Path, ttl_s: int) -> AbstractContextManager[Fleet]:
    return fleet(
        directory,
        jobs="tests.faults.harness.beating",
        ttl_s=ttl_s,
        config=f'[overrides.ticks]\nparams = {{effects = "{effects}"}}\n',
        quota_bytes=_QUOTA_BYTES,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, effects: Path) -> Iterator[Fleet]:
    with ticking(tmp_path_factory.mktemp("store"), effects, _TTL_S) as three:
        yield three


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Fleet]:
    """A leader that trusts itself for long enough to see a keepalive fail, and a quorum come back."""
    with ticking(tmp_path, tmp_path / "ticks", 10) as three, told(three.start()):
        yield three


@pytest.fixture
def three(cluster: Fleet) -> Iterator[Fleet]:
    with told(cluster.mend()):
        yield cluster


def ticked(view: View) -> list[Run]:
    """The fires that ran to their end."""
    return [stored.record for stored in view.runs("ticks") if stored.record.outcome is Outcome.SUCCEEDED]


def more_ticks(three: Fleet, number: int) -> View:
    """The view once so many more fires ran."""
    before = len(ticked(three.view()))
    return three.until(f"{number} fires ran", lambda view: len(ticked(view)) >= before + number)


def said_since(replica: MachineReplica, length: int, event: str) -> list[str]:
    """The reasons of its events of that name, after so many lines."""
    return [str(line.get("reason")) for line in replica.events()[length:] if line.get("event") == event]


def all_fires_are_accounted_for(view: View) -> bool:
    fires: list[float] = []
    for stored in view.runs("ticks"):
        run = stored.record
        if run.fires is not None:
            fires += [run.fires.first.timestamp() + n for n in range(run.fires.count)]
        elif run.fire_time is not None:
            fires.append(run.fire_time.timestamp())
    fires.sort()
    return {later - earlier for earlier, later in pairwise(fires)} == {1.0}


@pytest.mark.long
def test_a_full_store_costs_nobody_office_and_work_goes_on_when_there_is_room(three: Fleet) -> None:
    more_ticks(three, 1)
    leader, token, before = three.leader(), three.token(), len(three.leader().events())
    three.run(fill_quota(three.etcd))
    full_at = time.monotonic()
    admitted = len(three.view().runs("ticks"))
    while time.monotonic() < full_at + _TTL_S * 1.2:
        view = three.view()
        assert view.leader_key is not None
        assert view.leader_key.create_revision == token
        assert len(view.runs("ticks")) <= admitted + 1, "something was admitted"
    reasons = said_since(leader, before, "etcd_full")
    assert any("NOSPACE" in reason for reason in reasons), reasons
    three.run(disarm(three.etcd))
    view = more_ticks(three, 2)
    assert said_since(leader, before, "etcd_has_space")
    assert (leads(view), three.token()) == (leader.name, token)
    assert all_fires_are_accounted_for(view)


@slow
def test_a_quorum_that_is_lost_for_less_than_the_trust_costs_nobody_office(patient: Fleet) -> None:
    more_ticks(patient, 1)
    leader, token, before = patient.leader(), patient.token(), len(patient.leader().events())
    stopped = patient.run(patient.etcd.followers())
    for member in stopped:
        member.stop()
    try:
        give_up_at = time.monotonic() + 8.0
        while not said_since(leader, before, "keepalive_failed"):
            assert time.monotonic() < give_up_at, leader.log()
            time.sleep(0.01)
    finally:
        for member in stopped:
            member.resume()
    view = more_ticks(patient, 2)
    assert (leads(view), patient.token()) == (leader.name, token)
    assert all_fires_are_accounted_for(view)


@slow
def test_without_a_quorum_for_longer_than_the_ttl_the_term_ends_with_its_workers_and_a_new_one_begins(
    three: Fleet, tmp_path: Path
) -> None:
    at_work, gate = tmp_path / "effects", tmp_path / "gate"
    run = three.trigger("beats", effects=str(at_work), gate=str(gate))
    wait_for(at_work)
    leader, token = three.leader(), three.token()
    stopped = three.run(three.etcd.followers())
    for member in stopped:
        member.stop()
    lost_at = time.monotonic()
    try:
        while not leader.said("trust_lost", term=token):
            assert time.monotonic() < lost_at + _TTL_S, leader.log()
            time.sleep(0.02)
        alive = lives(at_work)[-1][1]
        while time.monotonic() < lost_at + _TTL_S * 1.5:
            time.sleep(0.1)
        assert lives(at_work)[-1][1] <= alive + 0.1, "the worker outlived the trust"
    finally:
        for member in stopped:
            member.resume()
    # A new leader of etcd gives every lease its whole TTL again.
    three.until(
        "another term",
        lambda view: (kv := view.leader_key) is not None and kv.create_revision > token,
        timeout_s=3 * _TTL_S,
    )
    gate.touch()
    assert three.ended("beats", run).outcome is Outcome.SUCCEEDED
    assert never_two(lives(at_work))


def killed(member: Member) -> None:
    member.kill()


def stopped(member: Member) -> None:
    member.stop()


@pytest.mark.parametrize("how", [pytest.param(killed, marks=slow), stopped])
def test_the_death_of_the_leader_of_etcd_costs_nobody_office(
    three: Fleet, how: Callable[[Member], None]
) -> None:
    more_ticks(three, 1)
    token, leader = three.token(), three.leader()
    how(three.run(three.etcd.leader()))
    fault_at = time.monotonic()
    while time.monotonic() < fault_at + _TTL_S:
        view = more_ticks(three, 1)
    assert (leads(view), three.token()) == (leader.name, token)
    assert all_fires_are_accounted_for(view)
