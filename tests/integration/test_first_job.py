"""What ``leaderjob init`` writes runs as it is."""

import json
from pathlib import Path

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.commands import said
from tests.support.replicas import Cluster, Replica, told


def test_a_folder_that_was_initialised_runs_its_first_job(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    assert said(["init", str(tmp_path)]).returncode == 0
    with Cluster(etcd.endpoint, namespace, tmp_path, jobs="", names=("r1",)) as cluster, told(cluster):
        # Of the settings, only the endpoint and the namespace are not as they were written: the port that
        # the file names is etcd's usual one.
        cluster.replicas["r1"] = replica = Replica("r1", tmp_path, cluster.target)
        cluster.start()
        done = cluster.cli("trigger", "hello", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        run = json.loads(done.stdout)
        assert (run["outcome"], run["version"]) == ("succeeded", 1)
        (job,) = cluster.status()["jobs"]
        assert (job["name"], job["schedule"], job["schedule_error"]) == ("hello", ["every 30s"], None)
        cluster.serves("hello", 1)
        (published,) = {path.read_text() for path in replica.state_dir.rglob("hello.txt")}
        assert published == "Hello, world!\n"
        assert replica.terminate() == 0
