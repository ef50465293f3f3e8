"""etcd goes away: replicas go on serving, leaders stop their work, and everybody can still be stopped."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderjob.client import ask
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.query import Query
from leaderjob.model.run import Outcome
from tests.support.commands import Lines
from tests.support.loop import run_async
from tests.support.replicas import SHORT_TTL_S, Cluster, gone_within, told, wait_for, witnessed
from tests.support.streams import run_with_streams

_JOBS = "tests.support.jobs.witnessed,tests.support.jobs.results"


@pytest.fixture
def two(own_etcd: EmbeddedEtcd, tmp_path: Path) -> Iterator[Cluster]:
    """A leader and a follower, with an etcd of their own."""
    config = '[overrides.ticks]\nschedule = ""\n'
    with (
        Cluster(
            own_etcd.endpoint,
            "without-etcd",
            tmp_path / "replicas",
            jobs=_JOBS,
            names=("r1", "r2"),
            ttl_s=SHORT_TTL_S,
            config=config,
        ) as cluster,
        told(cluster),
    ):
        yield cluster.start()


def answers(address: str) -> dict[str, Any]:
    """What a replica answers when it is asked directly, as a client would that knows it already."""
    found = run_with_streams(ask(address, Query(job="files", fields={"number": 0}), 5.0))
    value: dict[str, Any] = found.value
    return value


@pytest.mark.parametrize("how", [pytest.param("killed", marks=pytest.mark.slow), "stopped"])
def test_replicas_end_in_time_and_in_order_though_etcd_is_gone(
    two: Cluster, own_etcd: EmbeddedEtcd, tmp_path: Path, how: str
) -> None:
    effects = tmp_path / "effects"
    two.trigger("stubborn", effects=str(effects))
    wait_for(effects)
    worker = witnessed(effects)[0]["pid"]
    leader, (follower,) = two.leader(), two.followers()
    own_etcd.kill() if how == "killed" else own_etcd.pause()
    asked_at = time.monotonic()
    for replica in (leader, follower):
        replica.process.terminate()
    assert [replica.process.wait(10.0) for replica in (leader, follower)] == [0, 0]
    assert time.monotonic() - asked_at < 10.0
    assert gone_within(worker, 0.0)
    assert "Traceback" not in two.logs()


def test_etcd_may_be_gone_for_longer_than_the_ttl(
    two: Cluster, own_etcd: EmbeddedEtcd, tmp_path: Path
) -> None:
    version = two.ended("files", two.trigger("files", text="still served")).version
    view = two.serves("files", version or 0)
    addresses = [stored.record.addresses["grpc"] for stored in view.members.values()]
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    with Lines(sys.executable, "-m", "leaderjob", "watch", "--json", *two.target) as watching:
        watching.until(lambda line: json.loads(line)["event"] == "leader_elected")
        run = two.trigger("gated", effects=str(effects), gate=str(gate))
        wait_for(effects)
        own_etcd.kill()
        killed_at = time.monotonic()
        worker = witnessed(effects)[0]["pid"]
        assert gone_within(worker, SHORT_TTL_S), "the worker outlives the trust of its term"
        while time.monotonic() < killed_at + SHORT_TTL_S + 0.5:
            assert {answers(address)["line"] for address in addresses} == {"0 still served"}
        run_async(own_etcd.start())
        gate.touch()
        ended = two.ended("gated", run)
        finished = watching.until(lambda line: json.loads(line)["event"] == "run_finished")
        events = [json.loads(line) for line in watching.read]

    assert (ended.outcome, len(ended.attempts)) == (Outcome.SUCCEEDED, 2)
    assert ended.attempts[1].token > ended.attempts[0].token
    assert [line["what"] for line in witnessed(effects)] == ["began", "began", "ended"]
    assert sorted(member["role"] for member in two.status()["members"]) == ["follower", "leader"]
    for line in witnessed(effects):
        assert gone_within(line["pid"], 2.0)
    assert json.loads(finished)["run"] == run
    started = [(event["run"], event["attempt"]) for event in events if event["event"] == "run_started"]
    assert started == [(run, 1), (run, 2)], "watch missed or repeated something across the outage"
    elected = [event["token"] for event in events if event["event"] == "leader_elected"]
    assert elected == [attempt.token for attempt in ended.attempts]
