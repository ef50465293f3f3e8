"""A disk that fails under a follower costs it what it cannot fetch, and nobody anything else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.client import ask
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.query import Query
from leaderjob.model.run import Outcome
from tests.support.replicas import Cluster, Replica, told, wait_for_line
from tests.support.streams import run_with_streams


@pytest.fixture
def two(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> Iterator[Cluster]:
    config = '[results]\npublish_timeout = "500ms"\n'
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path,
            jobs="tests.support.jobs.results",
            names=("r1", "r2"),
            config=config,
        ) as cluster,
        told(cluster),
    ):
        yield cluster.start()


def line_of(cluster: Cluster, replica: Replica) -> str:
    """What this replica itself answers from the version of ``files`` that it serves."""
    address = cluster.view().members[replica.name].record.addresses["grpc"]
    found = run_with_streams(ask(address, Query(job="files", fields={"number": 0}), 5.0))
    return str(found.value["line"])


def test_a_follower_whose_disk_fails_goes_on_serving_and_fetches_once_it_is_repaired(two: Cluster) -> None:
    (follower,) = two.followers()
    leader = two.leader()
    two.ended("files", two.trigger("files", text="first"))
    two.serves("files", 1)
    staging = follower.state_dir / "store" / "staging"
    staging.rmdir()
    staging.write_text("a file where a directory should be")

    assert two.ended("files", two.trigger("files", text="second")).outcome is Outcome.SUCCEEDED
    two.serves("files", 2, names=[leader.name])
    wait_for_line(follower, "reason=\"[Errno 20] Not a directory: '")
    assert line_of(two, follower) == "0 first"
    assert line_of(two, leader) == "0 second"
    assert "Traceback" in follower.log(), "where the disk failed is part of the event"

    staging.unlink()
    staging.mkdir()
    two.serves("files", 2, timeout_s=30.0)
    assert line_of(two, follower) == "0 second"
    assert "part_broken" not in two.logs()


def test_a_job_whose_directory_is_damaged_costs_the_other_jobs_nothing(two: Cluster) -> None:
    (follower,) = two.followers()
    damaged = follower.state_dir / "store" / "jobs" / "value"
    damaged.write_text("a file where a directory should be")

    assert two.ended("value", two.trigger("value", value=1)).outcome is Outcome.SUCCEEDED
    wait_for_line(follower, f"reason='{damaged}/active.json cannot be read")
    two.ended("files", two.trigger("files", text="not concerned"))
    two.serves("files", 1)

    damaged.unlink()
    two.serves("value", 1, timeout_s=30.0)
