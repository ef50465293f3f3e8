"""etcd falls silent, for less than a leader trusts itself: the term goes on, and so does its work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.run import Outcome
from tests.support.replicas import Cluster, gone_within, told, wait_for, witnessed

_TTL_S = 10
_CONFIG = """
[election]
margin = "3s"
kill_grace = "2s"
[overrides.ticks]
schedule = ""
"""


@pytest.fixture
def alone(own_etcd: EmbeddedEtcd, tmp_path: Path) -> Iterator[Cluster]:
    """A leader that trusts itself for 7 s after a keepalive, and asks its workers to stop 2 s before."""
    with (
        Cluster(
            own_etcd.endpoint,
            "silent-etcd",
            tmp_path / "replicas",
            jobs="tests.support.jobs.witnessed",
            names=("r1",),
            ttl_s=_TTL_S,
            config=_CONFIG,
        ) as cluster,
        told(cluster.start()),
    ):
        yield cluster


def test_a_worker_that_was_stopped_for_a_term_that_survived_is_started_again(
    alone: Cluster, own_etcd: EmbeddedEtcd, tmp_path: Path
) -> None:
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    run = alone.trigger("obedient", effects=str(effects), gate=str(gate))
    wait_for(effects)
    own_etcd.pause()
    assert gone_within(witnessed(effects)[0]["pid"], _TTL_S), "the worker was not asked to stop"
    own_etcd.resume()
    gate.touch()
    done = alone.ended("obedient", run)
    assert [attempt.outcome for attempt in done.attempts] == [Outcome.ABANDONED, Outcome.SUCCEEDED]
    assert done.outcome is Outcome.SUCCEEDED
    assert len({attempt.token for attempt in done.attempts}) == 1, "it is another term"
