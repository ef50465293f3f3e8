"""The failover benchmark and the soak, in small: that what they do to a cluster is what they say, and that they end."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd import program
from tests.support.machines import needs_machines
from tests.support.streams import run_with_streams

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LIMIT_S = 120.0


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _with_cluster(directory: Path, play: Callable[[Any], Awaitable[None]], *, ttl_s: int = 10) -> None:
    from takeover.cluster import Cluster
    from takeover.members import Members

    async def main() -> None:
        async with (
            Members(directory / "etcd", binary=program("etcd")) as members,
            Cluster(members.endpoints, directory / "cluster", ttl_s) as cluster,
        ):
            await play(cluster)

    run_with_streams(main(), timeout_s=LIMIT_S)


@pytest.mark.long
def test_trials_follow_each_other_and_each_begins_with_a_whole_cluster(tmp_path: Path) -> None:
    from takeover import faults

    async def play(cluster: Any) -> None:
        for fault in (faults.KILLED, faults.KILLED_IN_MID_RUN, faults.STOPPED):
            trial = await faults.trial(cluster, fault)
            assert 0 < trial.acting_s < trial.began_s < cluster.ttl_s, fault.name

    _with_cluster(tmp_path, play)


@pytest.mark.slow
def test_each_step_of_the_limit_is_measured(tmp_path: Path) -> None:
    from takeover.limit import measure_steps

    async def play(cluster: Any) -> None:
        steps = await measure_steps(cluster, 1)
        assert [len(step.values_ms) for step in steps] == [1, 1, 5]
        assert all(0 < value_ms < 1000 for step in steps for value_ms in step.values_ms)

    _with_cluster(tmp_path, play)


@pytest.mark.slow
def test_a_trial_in_which_nobody_takes_over_is_told_and_the_next_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from takeover import faults
    from takeover.programme import Programme

    strikes: list[str] = []

    def spare_the_first(cluster: Any, leader: Any) -> None:
        strikes.append(leader.name)
        if len(strikes) > 1:
            leader.kill()

    fault = faults.Fault("killed", spare_the_first, faults.KILLED.mend)
    programme = Programme(tmp_path, trials=2, venvs=tmp_path)
    otherwise: list[str] = []

    async def play(cluster: Any) -> None:
        monkeypatch.setattr(faults, "_SLACK_S", -1.0)
        done = await programme._repeat(cluster, "killed", 2, lambda: faults.trial(cluster, fault), otherwise)
        assert len(done) == 1

    _with_cluster(tmp_path, play, ttl_s=2)
    assert otherwise == ["trial 1: killed: nobody took over within 3 s"]


@pytest.mark.slow
def test_a_takeover_by_another_than_the_next_in_line_does_not_count(tmp_path: Path) -> None:
    from takeover import faults
    from takeover.cluster import WentOtherwise

    def kill_two(cluster: Any, leader: Any) -> None:
        line = [stored.record.replica for stored in cluster._feed.view.queue]
        for name in reversed(line[:2]):  # or the next one takes over before it is dead
            cluster.replicas[name].kill()

    async def play(cluster: Any) -> None:
        fault = faults.Fault("killed", kill_two, faults.KILLED.mend)
        with pytest.raises(WentOtherwise, match=r"took over, though r\d was next$"):
            await faults.trial(cluster, fault)

    _with_cluster(tmp_path, play, ttl_s=2)


@pytest.mark.timeout_s(LIMIT_S)
async def test_a_rival_is_measured_until_the_next_one_says_that_it_leads(tmp_path: Path) -> None:
    from takeover.rivals import Rival, race
    from takeover.servers import Servers

    rival = Rival("etcdctl lock", 2, "etcd", ("--endpoints", "{address}", "lock", "x", "--ttl=2"))

    async with race(rival, tmp_path / "rival", servers=Servers(), venvs=tmp_path) as running:
        assert 0.5 < (await running.trial()) < 10


async def test_a_rival_that_is_not_installed_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contest.contestants import NotInstalled
    from takeover.servers import Servers

    monkeypatch.setenv("PATH", str(tmp_path))
    servers = Servers(jars=tmp_path)

    async def start(server: Any) -> None:
        with pytest.raises(NotInstalled, match=r"apt install (redis-server|zookeeper)$"):
            async with server:
                pass

    await start(servers.redis(tmp_path / "redis"))
    await start(servers.zookeeper(tmp_path / "zookeeper"))


async def test_a_candidate_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    from takeover.cluster import WentOtherwise
    from takeover.rivals import Race, Rival

    command = ["/bin/sh", "-c", "echo no such election >&2; exit 1"]
    running = Race(Rival("it", 2, "etcd", ()), command, tmp_path)
    try:
        with pytest.raises(WentOtherwise) as ended:
            await running.trial()
    finally:
        await running.end()
    assert "no such election" in str(ended.value)


@pytest.mark.slow
@pytest.mark.timeout_s(LIMIT_S)
async def test_the_death_of_etcds_leader_is_outlasted(tmp_path: Path) -> None:
    from takeover.cluster import Cluster
    from takeover.etcd_leader import outage
    from takeover.members import Members

    async with (
        Members(tmp_path / "etcd", count=3, binary=program("etcd")) as members,
        Cluster(members.endpoints, tmp_path / "cluster", 5) as cluster,
    ):
        found = await outage(cluster, members)
    assert found.kept_office
    assert 0.2 < found.written_s < found.began_s < 15


@needs_machines
@pytest.mark.slow
def test_a_machine_that_is_cut_off_is_waited_for_and_comes_back(tmp_path: Path) -> None:
    from takeover.cluster import NAMES, Cluster
    from takeover.faults import CUT_OFF, trial
    from takeover.machines import network
    from takeover.members import Members

    async def main(net: Any) -> list[Any]:
        async with (
            Members(tmp_path / "etcd", host=net.address, binary=program("etcd")) as members,
            Cluster(members.endpoints, tmp_path / "cluster", 3, machines=net.machines) as cluster,
        ):
            return [await trial(cluster, CUT_OFF) for _ in range(2)]

    with network(NAMES) as net:
        found = run_with_streams(main(net), timeout_s=LIMIT_S)
    assert all(1.5 < one.acting_s < 6 for one in found), "nothing but the TTL tells it"


@pytest.mark.slow
def test_a_soak_ends_with_what_it_has_seen(tmp_path: Path) -> None:
    from soak import soak

    verdict = asyncio.run(soak(tmp_path, minutes=0.3, members=1, burners=1, etcd=program("etcd")))
    assert verdict.problems == []
    assert verdict.fires >= 4
    assert verdict.least_trust_s is not None
    assert 0 < verdict.least_trust_s < 8
