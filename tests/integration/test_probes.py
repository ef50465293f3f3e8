"""Replicas asked over HTTP: alive, ready, and how they are doing."""

import http.client
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.replicas import SHORT_TTL_S, Cluster, Replica, told

_JOBS = "tests.support.jobs.witnessed,tests.support.jobs.results,tests.support.jobs.failing"


@pytest.fixture
def two(own_etcd: EmbeddedEtcd, tmp_path: Path) -> Iterator[Cluster]:
    with (
        Cluster(
            own_etcd.endpoint,
            "probed",
            tmp_path / "replicas",
            jobs=_JOBS,
            names=("r1", "r2"),
            ttl_s=SHORT_TTL_S,
            config=f'[overrides.ticks]\nparams = {{effects = "{tmp_path / "ticks"}"}}\n',
        ) as cluster,
        told(cluster),
    ):
        yield cluster.start()


def ask(cluster: Cluster, replica: Replica, path: str, address: str | None = None) -> tuple[int, str]:
    address = address or cluster.view().members[replica.name].record.addresses["http"]
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scrape(cluster: Cluster, replica: Replica) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the values of the labels, in the order of their names."""
    status, text = ask(cluster, replica, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def eventually(what: Callable[[], bool], *, timeout_s: float = 15.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def test_leader_and_follower_tell_how_they_are_doing(two: Cluster) -> None:
    leader, (follower,) = two.leader(), two.followers()
    done = two.ended("files", two.trigger("files", text="x"))
    two.serves("files", done.version or 0)
    two.until("a fire ran", lambda view: any(run.record.outcome for run in view.runs("ticks")))
    led, followed = scrape(two, leader), scrape(two, follower)
    assert (led["leaderjob_is_leader", ()], followed["leaderjob_is_leader", ()]) == (1, 0)
    assert led["leaderjob_terms_total", ()] == 1
    assert 0 < led["leaderjob_term_age_seconds", ()] < 60
    assert 0 < led["leaderjob_trust_left_seconds", ()] <= SHORT_TTL_S
    assert followed["leaderjob_trust_left_seconds", ()] == 0
    assert led["leaderjob_members", ()] == followed["leaderjob_members", ()] == 2
    assert led["leaderjob_fires_total", ("files", "succeeded", "")] == 1
    assert led["leaderjob_run_duration_seconds_count", ("files", "succeeded")] == 1
    assert led["leaderjob_run_lateness_seconds_count", ("ticks",)] >= 1
    for found in (led, followed):
        assert found["leaderjob_served_version", ("files",)] == 1
        assert found["leaderjob_published_version", ("files",)] == 1
        assert 0 <= found["leaderjob_version_age_seconds", ("files",)] < 60
        assert found["leaderjob_etcd_round_trip_seconds_count", ()] > 0
        assert found["leaderjob_next_fire_timestamp_seconds", ("ticks",)] > time.time() - 60
    leader.kill()
    new = two.next_leader(leader.name)
    eventually(lambda: scrape(two, new)["leaderjob_is_leader", ()] == 1)


def test_a_failed_run_counts_as_such(two: Cluster) -> None:
    leader = two.leader()
    two.ended("fails_for_good", two.trigger("fails_for_good"))
    eventually(
        lambda: scrape(two, leader).get(("leaderjob_fires_total", ("fails_for_good", "failed", ""))) == 1
    )


def test_a_replica_is_ready_while_its_session_is_up_and_it_serves_what_is_published(
    two: Cluster, own_etcd: EmbeddedEtcd
) -> None:
    leader = two.leader()
    address = two.view().members[leader.name].record.addresses["http"]
    assert ask(two, leader, "/readyz", address) == (200, "ready\n")
    own_etcd.pause()
    eventually(lambda: ask(two, leader, "/readyz", address)[0] == 503)
    assert ask(two, leader, "/readyz", address)[1] == "it has no session with etcd\n"
    assert ask(two, leader, "/healthz", address) == (200, "alive\n"), "etcd's trouble must not restart it"
    own_etcd.resume()
    eventually(lambda: ask(two, leader, "/readyz", address)[0] == 200)


def test_a_replica_that_has_nothing_of_what_is_published_is_not_ready(two: Cluster) -> None:
    done = two.ended("files", two.trigger("files", text="x"))
    two.serves("files", done.version or 0)
    pointer = two.view().pointer("files")
    assert pointer is not None
    unknown = pointer.record.model_copy(update={"digest": "blake3:" + "0" * 64})
    two.put(two.keys.pointer("value"), unknown.to_bytes())
    eventually(lambda: ask(two, two.leader(), "/readyz")[0] == 503)
    assert ask(two, two.leader(), "/readyz")[1] == "it serves no version of value yet\n"
