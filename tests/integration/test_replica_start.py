"""A replica that is starting: stopped at any moment, told where to listen, given a disk that is damaged."""

import asyncio
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.run import Outcome
from tests.support.commands import leaderjob, said
from tests.support.cuttable import Cuttable
from tests.support.replicas import Cluster, gone_within, told, wait_for

_RESULTS = "tests.support.jobs.results"
_SLOW = """
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "1000"])
pathlib.Path("importing").write_text(f"{os.getpid()} {child.pid}")
time.sleep(1000)
"""


def test_a_replica_that_waits_for_the_import_of_a_job_stops_when_told_and_leaves_nobody_behind(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(_SLOW)
    with Cluster(etcd.endpoint, namespace, tmp_path, jobs="slow", names=("r1",)) as cluster, told(cluster):
        replica = cluster["r1"]
        replica.start()
        importing = [int(pid) for pid in wait_for(tmp_path / "importing").split()]
        assert replica.terminate(within_s=5.0) == 0
        assert [gone_within(pid, 2.0) for pid in importing] == [True, True]
        assert [line.split()[3] for line in replica.log().splitlines()] == [
            "replica_stopping",
            "replica_stopped",
        ]


async def test_a_replica_that_waits_for_etcd_stops_when_told(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with Cuttable(etcd.endpoint) as proxy:
        proxy.cut()
        with Cluster(proxy.endpoint, namespace, tmp_path, jobs=_RESULTS, names=("r1",)) as cluster:
            cluster["r1"].start()
            await proxy.holding_request()
            assert await asyncio.to_thread(cluster["r1"].terminate, within_s=2.0) == 0
            assert "Traceback" not in cluster["r1"].log()


@pytest.mark.parametrize(
    ("listen_http", "insecure", "sentence"),
    [
        ("0.0.0.0:0", [], "replica.listen_http address 0.0.0.0:0 is not a loopback address"),
        ("0.0.0.0:0", ["--insecure"], "replica.listen_http address 0.0.0.0:0 is every address of this host"),
    ],
)
def test_published_files_are_not_open_to_others_by_mistake(
    monkeypatch: pytest.MonkeyPatch, listen_http: str, insecure: list[str], sentence: str
) -> None:
    monkeypatch.setenv("LEADERJOB_REPLICA_LISTEN_HTTP", listen_http)
    done = said(["run", "--etcd", "a:1", *insecure])
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_others_are_told_the_address_that_published_files_have(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    config = '[replica]\nlisten_http = "127.0.0.2:0"\n'
    with Cluster(etcd.endpoint, namespace, tmp_path, jobs=_RESULTS, names=("r1",), config=config) as cluster:
        addresses = cluster.start().status()["members"][0]["addresses"]
    hosts = {name: address.rpartition(":")[0] for name, address in addresses.items()}
    assert hosts == {"grpc": "127.0.0.1", "liveness": "127.0.0.1", "http": "127.0.0.2"}


def test_a_store_that_cannot_be_opened_is_named(etcd: EmbeddedEtcd, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "store").mkdir(parents=True)
    (state / "store" / "jobs").write_text("a file where a directory should be")
    arguments = ["--etcd", etcd.endpoint, "--jobs", _RESULTS, "--state-dir", str(state)]
    done = leaderjob("run", "--id", "r9", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"the state directory {state} cannot be used" in done.stderr
    assert f"{state}/store/jobs" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_whose_directory_is_damaged_does_not_keep_a_replica_from_serving_the_others(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with (
        Cluster(etcd.endpoint, namespace, tmp_path, jobs=_RESULTS, names=("r1",)) as cluster,
        told(cluster),
    ):
        jobs = cluster["r1"].state_dir / "store" / "jobs"
        jobs.mkdir(parents=True)
        (jobs / "value").write_text("a file where a directory should be")
        cluster.start()
        assert (
            f"serving_failed job=value reason='{jobs}/value/active.json cannot be read" in cluster["r1"].log()
        )
        done = cluster.ended("files", cluster.trigger("files", text="served"))
        assert done.outcome is Outcome.SUCCEEDED
        cluster.serves("files", 1)
        (jobs / "value").unlink()
        assert cluster.ended("value", cluster.trigger("value", value=1)).outcome is Outcome.SUCCEEDED
        cluster.serves("value", 1)
