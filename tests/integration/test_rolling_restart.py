"""The page on rolling restarts: three replicas are updated during a long job, which is hurt by nothing that the page says."""

import signal
from datetime import timedelta
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.run import Outcome
from tests.support.replicas import Cluster, leads, told, wait_for, wait_for_line, witnessed

_JOBS = "tests.support.jobs.witnessed"
_BY_TRIGGER = '[overrides.ticks]\nschedule = ""\n'


def three(etcd: EmbeddedEtcd, namespace: str, directory: Path, *, drain: str) -> Cluster:
    config = f'{_BY_TRIGGER}[election]\ndrain = "{drain}"\n'
    return Cluster(etcd.endpoint, namespace, directory / "r", jobs=_JOBS, config=config)


@pytest.mark.timeout_s(180)
@pytest.mark.long
def test_a_long_run_ends_in_its_first_attempt_while_three_replicas_are_restarted_as_the_page_says(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    with three(etcd, namespace, tmp_path, drain="2m") as cluster, told(cluster.start()):
        run = cluster.trigger("gated", effects=str(effects), gate=str(gate))
        wait_for(effects)
        former = cluster.leader()
        updated = cluster.followers()
        for replica in updated:
            assert replica.terminate() == 0
            cluster.start(replica.name)
        assert cluster.leader() is former

        new = updated[0]
        token, now = cluster.status()["leader"]["token"], utcnow()
        asked = Command(
            id="over",
            kind=CommandKind.TRANSFER,
            to=new.name,
            token=token,
            created=now,
            expires=now + timedelta(minutes=5),
        )
        cluster.put(cluster.keys.command("over"), asked.to_bytes())
        cluster.until("it drains", lambda view: view.members[former.name].record.draining)
        assert "leader, draining" in cluster.cli("status").stdout
        gate.touch()
        done = cluster.ended("gated", run)
        assert [(attempt.outcome, attempt.replica) for attempt in done.attempts] == [
            (Outcome.SUCCEEDED, former.name)
        ]
        cluster.until("office has passed", lambda view: leads(view) == new.name)
        cluster.until(
            "the former leader is a member that does not drain",
            lambda view: former.name in view.members and not view.members[former.name].record.draining,
        )

        assert former.terminate() == 0
        cluster.start(former.name)
        assert cluster.leader() is new
        cluster.serves("gated", 1)
    assert [line["what"] for line in witnessed(effects)] == ["began", "ended"]


@pytest.mark.timeout_s(180)
@pytest.mark.long
def test_four_orderly_restarts_in_a_row_abandon_no_run_that_allows_one_lost_leader(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    with three(etcd, namespace, tmp_path, drain="0s") as cluster, told(cluster.start()):
        run = cluster.trigger("gated", effects=str(effects), gate=str(gate))
        for stops in range(4):
            leader = cluster.leader()
            cluster.until(
                "the run is under way",
                lambda view, n=stops + 1: (
                    (found := view.unfinished_runs("gated")) and found[0].record.attempt_count == n
                ),
            )
            leader.send(signal.SIGTERM)
            wait_for_line(leader, "replica_stopped")
            assert leader.process.wait(10) == 0
            cluster.next_leader(leader.name)
            cluster.start(leader.name)
        gate.touch()
        done = cluster.ended("gated", run)
    assert [attempt.outcome for attempt in done.attempts] == [*[Outcome.ABANDONED] * 4, Outcome.SUCCEEDED]
    assert [attempt.handed_over for attempt in done.attempts] == [*[True] * 4, False]
    assert done.leader_losses == 0
