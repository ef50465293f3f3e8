"""What becomes of a result when its leader dies at the worst moment, or a follower does not come for it."""

import signal
from pathlib import Path

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.run import Outcome
from leaderjob.records.keys import Kind
from tests.faults.history import What
from tests.faults.history.scene import scene
from tests.support.replicas import Cluster, served, wait_for_line

_TTL_S = 10
_LONG_TTL_S = 30
"""Whoever is stopped stays a follower for as long as it matters."""
_RESULTS = "tests.support.jobs.results"


def test_a_leader_that_is_killed_after_it_published_and_before_it_heard_of_it_has_published_once(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with scene(etcd.endpoint, namespace, tmp_path, fault="killed-at-publication", ttl_s=_TTL_S) as it:
        killed = it.start().watched().leader()
        other = next(name for name in it.replicas if name != killed.name)
        run = it.trigger("builds", seconds=0.1)
        killed.process.wait(30.0)
        it.wait_until_told(other, "takes_office", timeout_s=60.0)
        view = it.until(
            "the other serves it", lambda view: served(view, other, "builds") == 1, timeout_s=60.0
        )
        done, pointer = view.get(Kind.RUN, "builds", run), view.pointer("builds")
        assert done is not None
        assert pointer is not None
        assert (done.record.outcome, len(done.record.attempts)) == (Outcome.SUCCEEDED, 1)
        assert (pointer.record.run, pointer.record.version) == (run, 1)
        began = [effect for effect in it.history().effects if effect.what is What.BEGAN]
        assert [effect.run for effect in began] == [run]
        assert killed.process.returncode == -signal.SIGKILL
        assert it.violated() == set()


def test_a_follower_that_does_not_come_for_a_result_delays_it_by_the_publish_timeout_and_no_more(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    config = '[results]\npublish_after = 1\npublish_timeout = "1s"\n'
    with Cluster(
        etcd.endpoint,
        namespace,
        tmp_path,
        jobs=_RESULTS,
        names=("r1", "r2"),
        ttl_s=_LONG_TTL_S,
        config=config,
    ) as cluster:
        leader = cluster.start().leader()
        [follower] = cluster.followers()
        cluster.ended("files", cluster.trigger("files", text="one"))
        cluster.serves("files", 1)
        assert "published_degraded" not in leader.log()
        follower.send(signal.SIGSTOP)
        done = cluster.ended("files", cluster.trigger("files", text="two"), timeout_s=_LONG_TTL_S)
        follower.send(signal.SIGCONT)
        assert (done.outcome, done.version, len(done.attempts)) == (Outcome.SUCCEEDED, 2, 1)
        took_s = (done.ended - done.attempts[0].started).total_seconds() if done.ended else 0.0
        assert took_s >= 1.0
        wait_for_line(leader, "published_degraded")
        cluster.serves("files", 2, timeout_s=60.0)
        assert "session_lost" not in follower.log()
