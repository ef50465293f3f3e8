"""Values under our prefix that nobody can read: kept, warned of, and in nobody's way."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.artifact import Staged
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.run import Outcome
from tests.support.etcd import etcdctl
from tests.support.replicas import Cluster, told, wait_for_line

_GARBAGE = "\x00not JSON \x7f"
_KEYS = (
    "jobs/files/schedule",
    "jobs/files/spec",
    "runs/files/y",
    "progress/files/y/1",
    "results/files/staged/y",
    "results/files/current",
    "results/files/versions/1",
    "commands/x",
    "meta/history",
)


@pytest.fixture(scope="module")
def two(etcd: EmbeddedEtcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("corrupt")
    config = '[overrides.files]\nschedule = "@yearly"\n'
    jobs = "tests.support.jobs.results"
    with Cluster(
        etcd.endpoint, "corrupt", directory, jobs=jobs, names=("r1", "r2"), config=config
    ) as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(two: Cluster) -> Iterator[Cluster]:
    with told(two.complete()):
        yield two


def read(cluster: Cluster, key: str) -> str:
    return etcdctl(cluster.endpoint, "get", "--print-value-only", key).removesuffix("\n")


def spoil(cluster: Cluster, key: str) -> None:
    cluster.put(cluster.keys.root + key, _GARBAGE.encode())


def published(cluster: Cluster, text: str) -> int:
    done = cluster.ended("files", cluster.trigger("files", text=text))
    assert done.outcome is Outcome.SUCCEEDED
    assert done.version is not None
    cluster.serves("files", done.version)
    return done.version


def test_what_cannot_be_read_is_moved_aside_and_jobs_go_on(cluster: Cluster) -> None:
    version = published(cluster, "before")
    leader = cluster.leader()
    for key in _KEYS:
        spoil(cluster, key)
        cluster.until(f"{key} is out of the way", _is_repaired_or_gone(cluster, key))
        assert read(cluster, f"{cluster.keys.root}quarantine/{key}") == _GARBAGE
        wait_for_line(leader, f"record_quarantined key={cluster.keys.root}{key}")
        cluster.until("files is known", lambda view: "files" in view.specs)
    assert published(cluster, "after") == version + 1
    assert cluster.leader() is leader
    assert "part_broken" not in leader.log()


@pytest.mark.parametrize(
    ("identity", "complaint"),
    [("../../../escaped", "is not a name"), ("UPPER", "is not a name"), ("another", "the key says 'mine'")],
)
def test_a_command_that_is_not_called_as_its_key_does_nothing_and_blocks_nobody(
    cluster: Cluster, identity: str, complaint: str
) -> None:
    now = utcnow()
    written = Command(
        id="mine",
        kind=CommandKind.TRIGGER,
        job="files",
        created=now,
        expires=now + timedelta(minutes=5),
        params={"text": "x"},
    )
    value = written.model_copy(update={"id": identity}).to_bytes()
    key = cluster.keys.command("mine")
    before = {run.record.id for run in cluster.view().runs("files")}
    cluster.put(key, value)
    published(cluster, "after it")
    cluster.until("it was moved aside", lambda view: key not in view.quarantined)
    assert read(cluster, cluster.keys.quarantine(key)) == value.decode()
    wait_for_line(cluster.leader(), complaint)
    assert len({run.record.id for run in cluster.view().runs("files")} - before) == 1
    assert not list(cluster.directory.rglob("*escaped*"))


def _is_repaired_or_gone(cluster: Cluster, key: str) -> Any:
    return lambda view: cluster.keys.root + key not in view.quarantined


def test_a_lost_pointer_is_made_again_from_the_versions(cluster: Cluster) -> None:
    version = published(cluster, "pointed at")
    before = cluster.view().pointer("files")
    assert before is not None
    spoil(cluster, "results/files/current")
    view = cluster.until(
        "there is a pointer again",
        lambda view: (pointer := view.pointer("files")) is not None and pointer.record != before.record,
    )
    after = view.pointer("files")
    assert after is not None
    assert (after.record.version, after.record.digest) == (version, before.record.digest)
    assert after.record.sequence == before.record.sequence + 1
    assert published(cluster, "pointed at next") == version + 1


def test_a_staged_result_that_nobody_has_does_not_hold_up_the_next_one(cluster: Cluster) -> None:
    published(cluster, "fetched")
    (follower,) = cluster.followers()
    ghost = Staged(
        job="files",
        run="ghost",
        token=1,
        digest="blake3:" + "0" * 64,
        manifest_bytes=1,
        size_bytes=1,
        file_count=1,
    )
    key = cluster.keys.staged("files", "ghost")
    cluster.put(key, ghost.to_bytes())
    try:
        wait_for_line(follower, "again_in_s=1.6")
        done = cluster.ended("files", cluster.trigger("files", text="fetched next"))
    finally:
        etcdctl(cluster.endpoint, "del", key)
    assert done.outcome is Outcome.SUCCEEDED
    assert "published_degraded" not in cluster.leader().log()


def test_status_warns_of_a_member_that_cannot_be_read_and_shows_the_others(cluster: Cluster) -> None:
    spoil(cluster, "members/zz")
    try:
        done = cluster.cli("status")
    finally:
        etcdctl(cluster.endpoint, "del", f"{cluster.keys.root}members/zz")
    assert done.returncode == 0
    assert "r1" in done.stdout
    assert "r2" in done.stdout
    assert f"warning: {cluster.keys.root}members/zz is quarantined" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_replica_writes_its_own_record_again_when_it_was_spoilt(cluster: Cluster) -> None:
    spoil(cluster, "members/r2")
    view = cluster.until("r2 has its record back", lambda view: "r2" in view.members)
    assert view.members["r2"].record.pid == cluster["r2"].process.pid
    assert view.members["r2"].lease


def test_a_key_in_the_election_that_is_none_of_ours_blocks_nobody(cluster: Cluster) -> None:
    spoil(cluster, "election/zz")
    leader, (follower,) = cluster.leader(), cluster.followers()
    assert cluster.status()["leader"]["replica"] == leader.name
    # Whoever stands behind it now removes it: no lease will ever do that.
    follower.terminate()
    cluster.start(follower.name)
    cluster.until("it is gone", lambda view: not any(key.endswith("/zz") for key in view.candidates))
    assert "candidate_without_lease" in follower.log()
    leader.terminate()
    assert cluster.next_leader(leader.name) is follower
