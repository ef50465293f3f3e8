"""A schedule, kept by whoever leads: each fire once in the ledger, whatever happens to the leader."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.records.view import View
from tests.support.replicas import Cluster, leads, told, witnessed

_EVERY = timedelta(seconds=1)
_TTL_S = 4  # so that at least three fires are due while the lease of a dead leader runs out


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("effects") / "ticks"


@pytest.fixture(scope="module")
def pair(etcd: EmbeddedEtcd, effects: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("schedule")
    config = f'[overrides.ticks]\nschedule = "every 1s"\nparams = {{effects = "{effects}"}}\n'
    jobs = "tests.support.jobs.witnessed"
    with Cluster(
        etcd.endpoint, "schedule", directory, jobs=jobs, names=("r1", "r2"), ttl_s=_TTL_S, config=config
    ) as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(pair: Cluster) -> Iterator[Cluster]:
    with told(pair.complete()):
        yield pair


def ledger(view: View) -> list[Run]:
    return [stored.record for stored in view.runs("ticks")]


def fires(runs: list[Run]) -> list[datetime]:
    """Every fire that the ledger accounts for, ranges spelled out, in the order of time."""
    found: list[datetime] = []
    for run in runs:
        if run.fires is not None:
            found += [run.fires.first + number * _EVERY for number in range(run.fires.count)]
            assert found[-1] == run.fires.last
        elif run.fire_time is not None:
            found.append(run.fire_time)
    return sorted(found)


def assert_each_once(runs: list[Run]) -> None:
    accounted = fires(runs)
    assert accounted
    assert {later - earlier for earlier, later in pairwise(accounted)} == {_EVERY}


def ran_under(token: int, times: int) -> Any:
    """Whether that term has carried so many fires to their end."""

    def condition(view: View) -> bool:
        done = [run for run in ledger(view) if run.outcome is Outcome.SUCCEEDED]
        return sum(run.attempts[-1].token == token for run in done) >= times

    return condition


def token_of(view: View, name: str) -> int:
    assert leads(view) == name
    kv = view.leader_key
    assert kv is not None
    return kv.create_revision


def test_fires_run_on_the_leader_only(cluster: Cluster, effects: Path) -> None:
    leader = cluster.leader()
    token = token_of(cluster.view(), leader.name)
    view = cluster.until("two fires ran", ran_under(token, 2))
    assert leads(view) == leader.name
    done = [run for run in ledger(view) if run.outcome is Outcome.SUCCEEDED]
    assert {attempt.replica for run in done for attempt in run.attempts} == {leader.name}
    assert {run.cause for run in done} == {Cause.SCHEDULE}
    assert {line["token"] for line in witnessed(effects)} == {token}
    ran = [line["fire_time"] for line in witnessed(effects)]
    assert len(ran) == len(set(ran))
    assert_each_once(ledger(view))
    ticks = next(job for job in cluster.status()["jobs"] if job["name"] == "ticks")
    assert done[-1].fire_time is not None
    assert datetime.fromisoformat(ticks["next_fire"]) > done[-1].fire_time


def test_each_fire_is_in_the_ledger_once_across_a_kill_of_the_leader(cluster: Cluster, effects: Path) -> None:
    killed = cluster.leader()
    cluster.until("it ran fires", ran_under(token_of(cluster.view(), killed.name), 1))
    killed.kill()
    new = cluster.next_leader(killed.name)
    view = cluster.until("the next one ran fires", ran_under(token_of(cluster.view(), new.name), 2))
    runs = ledger(view)
    assert_each_once(runs)
    accepted = [run for run in runs if run.outcome not in (Outcome.MISSED, Outcome.SKIPPED)]
    began = [line["run"] for line in witnessed(effects)]
    for run in accepted:
        attempts = [attempt for attempt in run.attempts if attempt.outcome is not Outcome.ABANDONED]
        assert len(attempts) <= 1, run
        assert began.count(run.id) <= len(run.attempts), run


def test_a_terminated_leader_hands_over_and_no_fire_is_lost(cluster: Cluster) -> None:
    former = cluster.leader()
    cluster.until("it ran fires", ran_under(token_of(cluster.view(), former.name), 1))
    assert former.terminate() == 0
    new = cluster.next_leader(former.name, timeout_s=2)
    view = cluster.until("the next one ran fires", ran_under(token_of(cluster.view(), new.name), 2))
    assert_each_once(ledger(view))
    before = {run.id for run in ledger(view) if run.state is State.DONE and run.outcome is Outcome.ABANDONED}
    assert before == set()


def test_fires_that_were_missed_while_nobody_led_are_one_range(cluster: Cluster) -> None:
    done = sum(run.outcome is Outcome.SUCCEEDED for run in ledger(cluster.view()))
    # Killed right after a run, nobody leaves an unfinished one behind, which the next fires would respect.
    view = cluster.until(
        "another fire ran",
        lambda view: sum(run.outcome is Outcome.SUCCEEDED for run in ledger(view)) > done,
    )
    known = {run.id for run in ledger(view)}
    for replica in cluster.replicas.values():
        replica.kill()
    # Whoever comes next waits until the lease of the dead leader has run out: fires are missed meanwhile.
    cluster.start("r1")
    view = cluster.until("the next one ran a fire", ran_under(token_of(cluster.view(), "r1"), 1))
    runs = ledger(view)
    assert_each_once(runs)
    missed = [run for run in runs if run.id not in known and run.outcome is Outcome.MISSED]
    assert len(missed) == 1
    assert missed[0].fires is not None
    assert missed[0].fires.count >= 2
    assert missed[0].reason is not None
    assert "nobody led" in missed[0].reason
    coalesced = next(run for run in runs if run.fire_time == missed[0].fires.last + _EVERY)
    assert coalesced.outcome in (Outcome.SUCCEEDED, None)
