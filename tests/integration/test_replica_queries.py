"""Every replica answers from its own copy, before, during and after a change of versions, and its own death."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.client import Client
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.verify import serves
from leaderjob.model.query import Answer
from tests.support.replicas import Cluster, told
from tests.support.streams import run_with_streams

_JOBS = "tests.support.jobs.results"


@pytest.fixture(scope="module")
def three(etcd: EmbeddedEtcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("queries")
    with Cluster(etcd.endpoint, "queries", directory, jobs=_JOBS) as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(three: Cluster) -> Iterator[Cluster]:
    with told(three):
        yield three


def publish(cluster: Cluster, text: str) -> int:
    """The version, once every replica that runs serves it."""
    version = cluster.ended("files", cluster.trigger("files", text=text)).version
    assert version is not None
    cluster.serves("files", version)
    return version


def current(cluster: Cluster) -> int:
    """The version that is published, made if there is none yet."""
    pointer = cluster.view().pointer("files")
    return pointer.record.version if pointer else publish(cluster, "the first")


def ask(cluster: Cluster, replica: str | None = None, *, number: int = 0) -> Answer:
    async def query() -> Answer:
        async with Client([cluster.endpoint], cluster.namespace) as client:
            return await client.query("files", {"number": number}, replica=replica)

    return run_with_streams(query())


def test_a_query_before_the_first_result_exits_with_4_and_says_how_to_get_one(cluster: Cluster) -> None:
    done = cluster.cli("query", "value", '{"number": 0}')
    assert (done.returncode, done.stdout) == (4, "")
    assert "trigger a run with 'leaderjob trigger value'" in done.stderr


def test_each_replica_answers_from_its_own_copy(cluster: Cluster) -> None:
    version = publish(cluster, "own copies")
    answers = {name: ask(cluster, name, number=1) for name in cluster.replicas}
    assert {answer.replica for answer in answers.values()} == {"r1", "r2", "r3"}
    assert {answer.version for answer in answers.values()} == {version}
    assert {answer.value["line"] for answer in answers.values()} == {"1 own copies"}
    assert len({answer.value["pid"] for answer in answers.values()}) == 3
    for name, answer in answers.items():
        assert Path(answer.value["directory"]).is_relative_to(cluster[name].state_dir)
        assert answer.value["pid"] != cluster[name].process.pid


def test_the_command_prints_the_answer_alone_and_with_json_who_gave_it(cluster: Cluster) -> None:
    version = current(cluster)
    plain = cluster.cli("query", "files", '{"number": 2}', "--replica", "r2")
    full = json.loads(cluster.cli("query", "files", '{"number": 2}', "--replica", "r2", "--json").stdout)
    assert (full["replica"], full["job"], full["version"]) == ("r2", "files", version)
    assert full["value"] == json.loads(plain.stdout)
    assert full["value"]["line"].startswith("2 ")


def test_a_query_that_the_job_refuses_exits_with_2_and_the_jobs_own_sentence(cluster: Cluster) -> None:
    current(cluster)
    done = cluster.cli("query", "files", '{"number": 99}')
    assert (done.returncode, done.stdout) == (2, "")
    assert "number is 99, and there are 3 files" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_query_to_a_replica_that_is_not_there_exits_with_4(cluster: Cluster) -> None:
    done = cluster.cli("query", "files", '{"number": 0}', "--replica", "r9")
    assert (done.returncode, done.stdout) == (4, "")
    assert "no replica is called 'r9'; there are r1, r2, r3" in done.stderr


def test_no_query_fails_while_versions_change_under_load(cluster: Cluster) -> None:
    first = publish(cluster, "before")

    async def load() -> dict[str, list[int]]:
        seen: dict[str, list[int]] = {name: [] for name in cluster.replicas}
        over = asyncio.Event()

        async def steadily(name: str) -> None:
            async with Client([cluster.endpoint], cluster.namespace) as client:
                while not over.is_set():
                    answer = await client.query("files", {"number": 0}, replica=name)
                    assert answer.value["line"] == ("0 before" if answer.version == first else "0 after")
                    seen[name].append(answer.version)

        async with asyncio.TaskGroup() as group:
            for name in cluster.replicas:
                group.create_task(steadily(name))
            async with Client([cluster.endpoint], cluster.namespace) as client:
                for _ in range(2):
                    run = await client.trigger("files", {"text": "after"})
                    version = (await client.wait_for_run("files", run)).version
                while not all(versions and versions[-1] == version for versions in seen.values()):
                    await asyncio.sleep(0.01)  # the load itself tells
            over.set()
        return seen

    for name, versions in run_with_streams(load()).items():
        assert versions == sorted(versions), f"{name} went back"
        assert (versions[0], versions[-1]) == (first, first + 2)


def test_a_restarted_replica_serves_what_is_on_its_disk_without_fetching_it(cluster: Cluster) -> None:
    version = publish(cluster, "kept on disk")
    replica = cluster.followers()[0]
    directory = ask(cluster, replica.name).value["directory"]
    inode = (Path(directory) / "0.txt").stat().st_ino
    replica.kill()
    begun = len(replica.log())
    replica.start()
    cluster.serves("files", version, names=[replica.name])
    answer = ask(cluster, replica.name)
    assert (answer.version, answer.value["line"]) == (version, "0 kept on disk")
    assert (Path(answer.value["directory"]) / "0.txt").stat().st_ino == inode
    assert " activated " not in replica.log()[begun:]


def test_a_follower_that_was_down_catches_up(cluster: Cluster) -> None:
    publish(cluster, "missed by nobody")
    replica = cluster.followers()[0]
    replica.kill()
    version = publish(cluster, "missed by one")
    replica.start()
    pointer = cluster.serves("files", version, names=[replica.name]).pointer("files")
    assert ask(cluster, replica.name).value["line"] == "0 missed by one"
    assert pointer is not None
    assert serves(replica.state_dir, "files", pointer.record.digest)


def test_a_file_that_was_truncated_while_its_replica_was_down_is_fetched_again(cluster: Cluster) -> None:
    version = publish(cluster, "to be truncated")
    replica = cluster.followers()[0]
    pointer = cluster.view().pointer("files")
    assert pointer is not None
    damaged = Path(ask(cluster, replica.name).value["directory"]) / "0.txt"
    replica.kill()
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:10])
    assert not serves(replica.state_dir, "files", pointer.record.digest)
    replica.start()
    cluster.serves("files", version, names=[replica.name])
    assert serves(replica.state_dir, "files", pointer.record.digest)
    assert ask(cluster, replica.name).value["line"] == "0 to be truncated"


def test_bytes_that_went_bad_at_another_replica_are_not_accepted(cluster: Cluster) -> None:
    publish(cluster, "before")
    down, other = cluster.followers()
    down.kill()
    version = publish(cluster, "bad at one of them")
    pointer = cluster.view().pointer("files")
    assert pointer is not None
    # The other follower is asked first, because followers come before the leader.
    damaged = Path(ask(cluster, other.name).value["directory"]) / "0.txt"
    damaged.chmod(0o644)
    damaged.write_bytes(b"?" + damaged.read_bytes()[1:])
    down.start()
    cluster.serves("files", version, names=[down.name])
    assert serves(down.state_dir, "files", pointer.record.digest)
    assert ask(cluster, down.name).value["line"] == "0 bad at one of them"
