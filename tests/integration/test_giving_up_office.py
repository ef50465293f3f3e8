"""Office is given up in order: to whoever is next, to somebody named, to somebody preferred; and with runs under way."""

import json
import signal
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster.fitness import PROBE
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.run import Outcome, Run
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from tests.support.replicas import Cluster, Replica, leads, told, wait_for, wait_for_line, witnessed

_JOBS = "tests.support.jobs.witnessed"
_BY_TRIGGER = '[overrides.ticks]\nschedule = ""\n'


@pytest.fixture(scope="module")
def cluster(etcd: EmbeddedEtcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("office")
    with Cluster(etcd.endpoint, "office", directory, jobs=_JOBS, config=_BY_TRIGGER) as three:
        yield three


@pytest.fixture
def three(cluster: Cluster) -> Iterator[Cluster]:
    with told(cluster.complete()):
        yield cluster


def draining(etcd: EmbeddedEtcd, namespace: str, directory: Path, drain: str) -> Cluster:
    config = f'{_BY_TRIGGER}[election]\ndrain = "{drain}"\n'
    return Cluster(etcd.endpoint, namespace, directory, jobs=_JOBS, names=("r1", "r2"), config=config)


def token(cluster: Cluster) -> int:
    return int(cluster.status()["leader"]["token"])


def queue(cluster: Cluster) -> list[str]:
    return names_of(cluster.view())


def run_of(cluster: Cluster, job: str, run: str) -> Run:
    stored = cluster.view().get(Kind.RUN, job, run)
    assert stored is not None
    record: Run = stored.record
    return record


def give(cluster: Cluster, kind: CommandKind, name: str, **fields: Any) -> None:
    """Write a command, and do not wait for it."""
    now = utcnow()
    command = Command(id=name, kind=kind, created=now, expires=now + timedelta(minutes=1), **fields)
    cluster.put(cluster.keys.command(name), command.to_bytes())


def test_who_resigns_hands_its_run_over_and_queues_again(three: Cluster, tmp_path: Path) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    run = three.trigger("gated", effects=str(effects), gate=str(gate))
    wait_for(effects)
    leader, following, last = queue(three)
    before = token(three)
    said = three.cli("resign", "--json")
    assert said.returncode == 0
    now = json.loads(said.stdout)
    assert (now["replica"], now["former_token"]) == (following, before)
    assert now["token"] > before
    three.until("it stands again", lambda view: len(view.queue) == 3)
    assert queue(three) == [following, last, leader]
    gate.touch()
    handed_over, again = three.ended("gated", run).attempts
    assert (handed_over.outcome, handed_over.workers_gone, again.outcome) == (
        Outcome.ABANDONED,
        True,
        Outcome.SUCCEEDED,
    )
    assert "reason='asked to resign by" in three[leader].log()


def test_office_is_transferred_to_the_last_in_line(three: Cluster) -> None:
    leader, between, last = queue(three)
    said = three.cli("transfer", "--to", last)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"{last} leads, fencing token ")
    three.until("all stand again", lambda view: len(view.queue) == 3)
    assert queue(three) == [last, between, leader]
    assert f"letting_pass to={last}" in three[between].log()
    assert three.view().transfer() is None


@pytest.mark.parametrize(
    ("to", "told_why"),
    [("nobody", "no replica is called 'nobody' here"), ("the leader", "leads already")],
)
def test_a_transfer_that_makes_no_sense_is_refused(three: Cluster, to: str, told_why: str) -> None:
    leader = three.leader().name
    before = token(three)
    said = three.cli("transfer", "--to", leader if to == "the leader" else to)
    assert said.returncode == 1
    assert told_why in said.stderr
    assert f"{leader} does not give up office" in said.stderr
    assert token(three) == before


def test_a_transfer_to_one_that_hangs_is_refused(three: Cluster) -> None:
    hanging = three.followers()[0]
    hanging.send(signal.SIGSTOP)
    try:
        said = three.cli("transfer", "--to", hanging.name)
    finally:
        hanging.send(signal.SIGCONT)
    assert said.returncode == 1
    assert f"{hanging.name} does not answer at" in said.stderr


def test_a_transfer_to_one_that_is_dead_is_refused_also_while_its_lease_lasts(three: Cluster) -> None:
    before, dead = token(three), queue(three)[-1]
    three[dead].kill()
    said = three.cli("transfer", "--to", dead)
    assert said.returncode == 1
    assert f"{dead} does not answer at" in said.stderr
    assert "it is dead or hangs" in said.stderr
    assert token(three) == before


def test_a_command_to_another_term_changes_nothing(three: Cluster) -> None:
    before = token(three)
    give(three, CommandKind.RESIGN, "too-late", token=before - 1)
    view = three.until(
        "it was taken", lambda view: (found := view.get(Kind.COMMAND, "too-late")) and found.record.done
    )
    taken = view.get(Kind.COMMAND, "too-late")
    assert taken is not None
    assert (taken.record.accepted, token(three)) == (False, before)
    assert f"it means term {before - 1}, and this is term {before}" in taken.record.outcome


def test_an_observer_never_leads_and_is_given_no_office(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    names = ("observer", "other")
    with (
        Cluster(etcd.endpoint, namespace, tmp_path, jobs=_JOBS, names=names, config=_BY_TRIGGER) as two,
        told(two),
    ):
        two["observer"].settings["LEADERJOB_REPLICA_PRIORITY"] = "observer"
        two["observer"].start()
        wait_for_line(two["observer"], "session_opened")
        two.until("it is a member", lambda view: "observer" in view.members)
        two["other"].start()
        two.until("somebody leads", lambda view: leads(view) == "other")
        said = two.cli("transfer", "--to", "observer")
        assert (said.returncode, "is an observer" in said.stderr) == (1, True)
        assert two["other"].terminate() == 0
        two.until("nobody stands", lambda view: view.queue == [] and "other" not in view.members)
        assert "campaign_started" not in two["observer"].log()


def test_office_goes_to_a_preferred_replica_when_no_run_is_under_way(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    names = ("r1", "r2", "wanted")
    with (
        Cluster(
            etcd.endpoint, namespace, tmp_path, jobs=_JOBS, names=names, ttl_s=3, config=_BY_TRIGGER
        ) as three,
        told(three),
    ):
        three.start("r1", "r2")
        run = three.trigger("gated", effects=str(effects), gate=str(gate))
        wait_for(effects)
        former = three.leader()
        three["wanted"].settings["LEADERJOB_REPLICA_PRIORITY"] = "preferred"
        three["wanted"].start()
        three.until("it stands", lambda view: len(view.queue) == 3)
        gate.touch()
        assert len(three.ended("gated", run).attempts) == 1
        three.until("it leads", lambda view: leads(view) == "wanted")
        assert "reason='wanted is preferred'" in former.log()
        assert run_of(three, "gated", run).attempts[0].replica == former.name


def begun(cluster: Cluster, tmp_path: Path) -> tuple[str, Replica]:
    """A run that works until there is a file ``gate``, and its leader."""
    effects = tmp_path / "effects"
    run = cluster.trigger("gated", effects=str(effects), gate=str(tmp_path / "gate"))
    wait_for(effects)
    return run, cluster.leader()


def test_a_leader_that_is_stopped_lets_its_run_end_and_begins_no_other(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with draining(etcd, namespace, tmp_path / "r", "20s") as two, told(two.start()):
        run, leader = begun(two, tmp_path)
        gate = str(tmp_path / "gate")
        leader.send(signal.SIGTERM)
        wait_for_line(leader, "stepping_down")
        give(
            two,
            CommandKind.TRIGGER,
            "other",
            job="obedient",
            params={"effects": str(tmp_path / "other"), "gate": gate},
        )
        assert two.leader() is leader
        (tmp_path / "gate").touch()
        done = two.ended("gated", run)
        assert [attempt.outcome for attempt in done.attempts] == [Outcome.SUCCEEDED]
        assert leader.process.wait(5) == 0
        new = two.next_leader(leader.name)
        (attempt,) = two.ended("obedient", "other").attempts
        assert attempt.replica == new.name


def test_a_leader_that_is_stopped_waits_for_no_retry_and_the_next_one_keeps_its_instant(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    with draining(etcd, namespace, tmp_path / "r", "10m") as two, told(two.start()):
        run = two.trigger("put_off", effects=str(effects))
        leader = two.leader()
        wait_for_line(leader, "attempt_failed")
        assert leader.terminate(within_s=20) == 0
        two.next_leader(leader.name)
        said = two.cli("trigger", "put_off", "--params", json.dumps({"effects": str(effects)}))
        assert f"run {run} is not finished" in said.stderr, "the new leader has taken it up"
        waiting = run_of(two, "put_off", run)
        (attempt,) = waiting.attempts
        assert attempt.ended is not None
        assert waiting.retry_at == attempt.ended + timedelta(hours=1)


@pytest.mark.parametrize("why", ["its time is up", "somebody insists"])
def test_a_run_that_does_not_end_is_handed_over(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, why: str
) -> None:
    drain = "500ms" if why == "its time is up" else "10m"
    with draining(etcd, namespace, tmp_path / "r", drain) as two, told(two.start()):
        run, leader = begun(two, tmp_path)
        leader.send(signal.SIGTERM)
        if why == "somebody insists":
            wait_for_line(leader, "stepping_down")
            leader.send(signal.SIGTERM)
        assert leader.process.wait(9) == 0
        two.next_leader(leader.name)
        (tmp_path / "gate").touch()
        outcomes = [attempt.outcome for attempt in two.ended("gated", run).attempts]
        assert outcomes == [Outcome.ABANDONED, Outcome.SUCCEEDED]


def test_no_fire_is_missed_while_all_replicas_are_restarted_one_after_the_other(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    config = f'[overrides.ticks]\nschedule = "every 1s"\nparams = {{effects = "{effects}"}}\n'
    with (
        Cluster(etcd.endpoint, namespace, tmp_path / "r", jobs=_JOBS, config=config) as three,
        told(three.start()),
    ):
        wait_for(effects)
        for name in ("r1", "r2", "r3"):
            assert three[name].terminate() == 0
            three.start(name)
        three.until("it ticks on", lambda view: len(view.runs("ticks")) >= 8)
        runs = [stored.record for stored in three.view().runs("ticks")]
    fires = [run.fire_time for run in runs if run.fire_time]
    assert {later - former for former, later in pairwise(fires)} == {timedelta(seconds=1)}
    # On a slow machine one run may last until the next fire, which is skipped then; missed is none.
    assert {run.outcome for run in runs} - {None, Outcome.SKIPPED} == {Outcome.SUCCEEDED}
    assert len({line["token"] for line in witnessed(effects)}) > 1


def test_a_leader_whose_disk_fails_steps_down_and_stands_again_when_it_is_repaired(three: Cluster) -> None:
    leader = three.leader()
    probe = leader.state_dir / PROBE
    probe.unlink(missing_ok=True)
    probe.mkdir()
    try:
        new = three.next_leader(leader.name, timeout_s=30)
        assert new.name != leader.name
        three.until(
            "it stands no more, and is a member",
            lambda view: leader.name in view.members and leader.name not in names_of(view),
        )
        assert f"nothing can be written to {probe}" in leader.log()
    finally:
        probe.rmdir()
    three.until("it stands again", lambda view: leader.name in names_of(view), timeout_s=30)


def names_of(view: View) -> list[str]:
    return [stored.record.replica for stored in view.queue]
