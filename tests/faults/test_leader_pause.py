"""The leader is paused for longer than its TTL, and goes on as if nothing had happened."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.verify import serves
from leaderjob.model.run import Outcome
from tests.support.commands import Lines
from tests.support.replicas import SHORT_TTL_S, Cluster, gone_within, told, wait_for, wait_for_line, witnessed


@pytest.fixture
def cluster(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> Iterator[Cluster]:
    """Three replicas that wait for a copy on every live follower before they publish."""
    config = '[results]\npublish_after = 9\npublish_timeout = "60s"\n[overrides.ticks]\nschedule = ""\n'
    jobs = "tests.support.jobs.witnessed,tests.support.jobs.results"
    with (
        Cluster(
            etcd.endpoint, namespace, tmp_path / "replicas", jobs=jobs, ttl_s=SHORT_TTL_S, config=config
        ) as cluster,
        told(cluster.start()),
    ):
        yield cluster


@pytest.mark.long
def test_a_leader_that_wakes_up_about_to_publish_publishes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    before = cluster.ended("files", cluster.trigger("files", text="before")).version
    assert before == 1
    cluster.serves("files", before)
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    gated = cluster.trigger("gated", effects=str(effects), gate=str(gate))
    wait_for(effects)
    leader, (held_up, other) = cluster.leader(), cluster.followers()
    with Lines(sys.executable, "-m", "leaderjob", "watch", "--json", *cluster.target) as watching:
        watching.until(lambda line: json.loads(line)["event"] == "leader_elected")
        # One job's result waits for the copy of a follower that does not answer, another job is at work.
        held_up.send(signal.SIGSTOP)
        run = cluster.trigger("files", text="after")
        view = cluster.until("the result is staged", lambda view: bool(view.staged()))
        staged = view.staged()[0].record
        cluster.until(
            "the other follower has a copy",
            lambda view: staged.digest in view.members[other.name].record.holds["files"].manifests,
            timeout_s=2.5,  # the other one, which does not answer, is not asked for it before the leader
        )
        leader.send(signal.SIGSTOP)
        stopped_at = time.monotonic()
        assert gone_within(witnessed(effects)[0]["pid"], SHORT_TTL_S), (
            "the worker outlives its leader's trust"
        )
        # Now nobody is left whom the leader would wait for, once it goes on.
        held_up.send(signal.SIGCONT)
        new = cluster.next_leader(leader.name)
        assert time.monotonic() - stopped_at > SHORT_TTL_S / 2
        leader.send(signal.SIGCONT)
        gate.touch()
        done, again = cluster.ended("files", run), cluster.ended("gated", gated)
        view = cluster.serves("files", before + 1)
        watching.until(lambda line: _activated(line, leader.name, before + 1))
        events = [json.loads(line) for line in watching.read]

    pointer = view.pointer("files")
    assert pointer is not None
    assert (pointer.record.version, pointer.record.sequence) == (2, 2)
    assert pointer.record.run == run
    assert [attempt.outcome for attempt in done.attempts] == [Outcome.ABANDONED, Outcome.SUCCEEDED]
    assert pointer.record.token == done.attempts[1].token > staged.token
    assert done.attempts[1].replica == new.name
    published = [event for event in events if event["event"] == "published" and event["job"] == "files"]
    assert [(event["version"], event["token"]) for event in published] == [(2, pointer.record.token)]
    for replica in cluster.replicas.values():
        activated = [
            event["version"]
            for event in events
            if event["event"] == "activated" and (event["replica"], event["job"]) == (replica.name, "files")
        ]
        assert activated == sorted(activated), f"{replica.name} went back"
        assert serves(replica.state_dir, "files", pointer.record.digest)
    wait_for_line(leader, "term_ended")

    assert [attempt.outcome for attempt in again.attempts] == [Outcome.ABANDONED, Outcome.SUCCEEDED]
    assert [line["what"] for line in witnessed(effects)] == ["began", "began", "ended"]
    assert (again.attempts[1].started - again.attempts[0].started).total_seconds() > SHORT_TTL_S


def _activated(line: str, replica: str, version: int) -> bool:
    event = json.loads(line)
    if event["event"] != "activated":
        return False
    return (event["replica"], event["job"], event["version"]) == (replica, "files", version)
