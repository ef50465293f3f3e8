"""A replica whose event loop stalls while its other threads, its guards and its connections live; and one whose
wall clock is set."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.run import Outcome
from leaderjob.records.keys import Kind
from tests.faults.harness.loop_stall import LoopStall
from tests.faults.harness.wall_clock import WallClock, needs_faketime
from tests.support.replicas import (
    SHORT_TTL_S,
    Cluster,
    Replica,
    gone_within,
    told,
    wait_for,
    wait_for_line,
    witnessed,
)

_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Stallable:
    """Two replicas whose loops can be held up."""

    cluster: Cluster
    stalls: Mapping[str, LoopStall]

    def stall(self, replica: Replica) -> None:
        self.stalls[replica.name].begin(replica.process.pid)

    def go_on(self) -> None:
        for stall in self.stalls.values():
            stall.end()


@contextmanager
def stallable(etcd: EmbeddedEtcd, namespace: str, directory: Path, *, ttl_s: int) -> Iterator[Stallable]:
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            directory / "replicas",
            jobs="tests.support.jobs.witnessed",
            ttl_s=ttl_s,
            names=("r1", "r2"),
            config='[overrides.ticks]\nschedule = ""\n',
        ) as cluster,
        told(cluster),
    ):
        stalls = {name: LoopStall(directory / f"{name}.stall") for name in cluster.replicas}
        for name, replica in cluster.replicas.items():
            replica.settings |= stalls[name].settings
        cluster.start()
        yield Stallable(cluster.watched(), stalls)


def begun(cluster: Cluster, directory: Path) -> tuple[str, Replica, int]:
    """A run that works until there is a file ``gate``, its leader, and the pid of its worker."""
    effects = directory / "effects"
    run = cluster.trigger("gated", effects=str(effects), gate=str(directory / "gate"))
    wait_for(effects)
    return run, cluster.leader(), witnessed(effects)[0]["pid"]


def test_a_leader_whose_loop_stalls_for_longer_than_its_ttl_has_no_worker_left_when_the_next_one_begins(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with stallable(etcd, namespace, tmp_path, ttl_s=SHORT_TTL_S) as it:
        two = it.cluster
        run, leader, worker = begun(two, tmp_path)
        it.stall(leader)
        stalled_at = time.monotonic()
        # Its guard alone is left to see that its trust has run out.
        assert gone_within(worker, SHORT_TTL_S), "the worker outlives its leader's trust"
        new = two.next_leader(leader.name)
        assert time.monotonic() - stalled_at > SHORT_TTL_S / 2, "its process was there all the time"
        (tmp_path / "gate").touch()
        done = two.ended("gated", run)
        published = two.view().pointer("gated")
        it.go_on()
        wait_for_line(leader, "term_ended")
        two.until("it stands again", lambda view: len(view.queue) == 2)
        # What it had in hand when it went on has changed nothing.
        assert two.view().pointer("gated") == published
        stored = two.view().get(Kind.RUN, "gated", run)
        assert stored is not None
        assert stored.record == done
        assert [attempt.outcome for attempt in done.attempts] == [Outcome.ABANDONED, Outcome.SUCCEEDED]
        assert done.attempts[1].replica == new.name
        first, second = (line for line in witnessed(tmp_path / "effects") if line["what"] == "began")
        # Its lease runs out within a TTL, less what it had used of it; the hold rule has another one pass.
        assert second["at"] - first["at"] > SHORT_TTL_S * 1.7, "against the hold rule"
        assert "verdict" not in new.log()
        assert leader.log().count("run_started") == 1


def test_a_leader_whose_loop_stalls_for_longer_than_a_third_of_its_ttl_keeps_office_and_its_run(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with stallable(etcd, namespace, tmp_path, ttl_s=10) as it:
        two = it.cluster
        run, leader, worker = begun(two, tmp_path)
        token = two.status()["leader"]["token"]
        it.stall(leader)
        stalled_at = time.monotonic()
        threading.Timer(4.0, it.go_on).start()
        # A command waits for it, and for nobody else.
        other = two.trigger("quick", effects=str(tmp_path / "quick"))
        assert time.monotonic() - stalled_at > 10 / 3
        assert not gone_within(worker, 0.0)
        (tmp_path / "gate").touch()
        done = two.ended("gated", run)
        assert [attempt.outcome for attempt in done.attempts] == [Outcome.SUCCEEDED]
        assert two.ended("quick", other).attempts[0].token == token == two.status()["leader"]["token"]
        assert "term_ended" not in leader.log()


# Not time.sleep(), which ends with an error where libfaketime moves the clock.
_WAITS = """
import os, select
from pathlib import Path
from leaderjob import job

@job(max_leader_losses=0)
def waits(ctx, effects: str, gate: str) -> None:
    Path(effects).write_text(str(os.getpid()))
    while not Path(gate).exists():
        select.select([], [], [], 0.02)
"""


@needs_faketime
@pytest.mark.long
def test_a_run_goes_on_though_its_leaders_clock_is_set_an_hour_ahead_and_back(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    clock = WallClock(tmp_path / "clock")
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path / "replicas",
            jobs="waits",
            names=("r1", "r2"),
            ttl_s=SHORT_TTL_S,
            config='[log]\nlevel = "debug"\n',
        ) as two,
        told(two),
    ):
        (two.directory / "waits.py").write_text(_WAITS)
        for replica in two.replicas.values():
            replica.settings.update(word.split("=", 1) for word in clock.within[1:])
        two.start()
        run = two.trigger("waits", effects=str(effects), gate=str(gate))
        worker = int(wait_for(effects))
        leader, token = two.leader(), two.status()["leader"]["token"]
        for ahead_s in (_HOUR_S, -_HOUR_S, 0):
            clock.set(ahead_s)
            _use_up_trust(leader)
            assert not gone_within(worker, 0.0), "its guard killed it"
        gate.touch()
        done = two.ended("waits", run)
        assert [(attempt.outcome, attempt.token) for attempt in done.attempts] == [(Outcome.SUCCEEDED, token)]
        assert two.status()["leader"]["token"] == token
        assert "term_ended" not in leader.log()


def _use_up_trust(leader: Replica) -> None:
    """Return when all the trust that it had is used up, and what it has was gained since. A keepalive takes a fifth of
    the TTL."""
    extended = leader.log().count("trust_extended")
    give_up_at = time.monotonic() + 15.0
    while leader.log().count("trust_extended") < extended + 6:
        assert time.monotonic() < give_up_at, leader.log()
        time.sleep(0.01)
