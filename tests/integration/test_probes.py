"""Replicas asked over HTTP: alive, ready, and how they are doing."""

import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from leaderjob.embedded.child import spawn
from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.commands import environment
from tests.support.replicas import SHORT_TTL_S, Cluster, Replica, told, wait_for

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


def address_of(cluster: Cluster, replica: Replica) -> str:
    return cluster.view().members[replica.name].record.addresses["http"]


def ask(
    cluster: Cluster, replica: Replica, path: str, address: str | None = None, method: str = "GET"
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address or address_of(cluster, replica), timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scrape(cluster: Cluster, replica: Replica) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the values of the labels, in the order of their names."""
    return samples(ask(cluster, replica, "/metrics"))


def samples(answer: tuple[int, str]) -> dict[tuple[str, tuple[str, ...]], float]:
    status, text = answer
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
    assert scrape(two, new)["leaderjob_terms_total", ()] == 1
    assert ("leaderjob_fires_total", ("files", "succeeded", "")) not in scrape(two, new), "it ran elsewhere"


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
    address = address_of(two, leader)
    assert ask(two, leader, "/readyz", address) == (200, "ready\n")
    assert ask(two, leader, "/readyz", address, "HEAD") == (200, "")
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


def test_fires_during_a_run_count_as_skipped_and_who_is_stopping_is_not_ready(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    began = tmp_path / "began"
    config = f'[overrides.stubborn]\nschedule = "every 1s"\nparams = {{effects = "{began}"}}\n'
    jobs = "tests.support.jobs.witnessed"
    with Cluster(etcd.endpoint, namespace, tmp_path / "r", jobs=jobs, names=("r1",), config=config) as one:
        leader = one.start().leader()
        wait_for(began)
        skipped = ("leaderjob_fires_total", ("stubborn", "skipped", "overlap"))
        eventually(lambda: scrape(one, leader).get(skipped, 0) >= 2)
        address = address_of(one, leader)
        leader.send(signal.SIGTERM)
        # Its worker does not obey, so that stopping takes as long as the grace.
        eventually(lambda: ask(one, leader, "/readyz", address) == (503, "it is stopping\n"))
        assert leader.process.wait(10) == 0


@contextmanager
def collected(cluster: Cluster, replica: Replica) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Start a replica that logs into a pipe; what collects the log from there, and the pipe."""
    pipe, log_path = replica.log_path.with_suffix(".pipe"), replica.log_path
    os.mkfifo(pipe)
    cat = shutil.which("cat")
    assert cat is not None
    with log_path.open("wb") as log:
        collector = spawn([cat, str(pipe)], log, environment=environment())
    try:
        replica.log_path = pipe
        replica.start()
        replica.log_path = log_path
        yield collector, pipe
    finally:
        collector.kill()
        collector.wait()


def fill(pipe: Path) -> None:
    """Until nothing more can be written to it."""
    descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        for size_bytes in (4096, 1):
            try:
                while True:
                    os.write(descriptor, b"\n" * size_bytes)
            except BlockingIOError:
                continue
    finally:
        os.close(descriptor)


def test_a_replica_whose_event_loop_is_held_up_is_not_alive_until_it_turns_again(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    jobs = "tests.support.jobs.results"
    with (
        Cluster(etcd.endpoint, namespace, tmp_path / "r", jobs=jobs, names=("r1",)) as one,
        collected(one, one["r1"]) as (collector, pipe),
    ):
        leader = one.leader()
        address = address_of(one, leader)
        assert ask(one, leader, "/healthz", address) == (200, "alive\n")
        assert samples(ask(one, leader, "/metrics", address))["leaderjob_is_leader", ()] == 1
        # Nobody reads the log any more, so the next line of it holds up whoever writes it.
        collector.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, collector.pid, os.WSTOPPED | os.WNOWAIT)
        fill(pipe)
        one.put(one.keys.spec("value"), b"not a record")
        stalled = "its event loop has not turned for 1 s\n"
        eventually(lambda: ask(one, leader, "/healthz", address) == (503, stalled))
        assert ask(one, leader, "/readyz", address) == (503, stalled)
        found = samples(ask(one, leader, "/metrics", address))
        assert found["leaderjob_terms_total", ()] == 1
        assert ("leaderjob_is_leader", ()) not in found, "somebody else may lead by now"
        collector.send_signal(signal.SIGCONT)
        eventually(lambda: ask(one, leader, "/healthz", address) == (200, "alive\n"))
