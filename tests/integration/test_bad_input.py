"""What is wrong gets one clear sentence and an exit code, and costs nobody anything else."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.model.run import Outcome
from tests.support.commands import environment, leaderjob, said
from tests.support.needs import needs
from tests.support.replicas import Cluster, told

_RESULTS = "tests.support.jobs.results"


@contextmanager
def one(
    etcd: EmbeddedEtcd, namespace: str, directory: Path, jobs: str, config: str = ""
) -> Iterator[Cluster]:
    """A replica alone, and what it wrote if the test fails."""
    with (
        Cluster(etcd.endpoint, namespace, directory, jobs=jobs, names=("r1",), config=config) as cluster,
        told(cluster),
    ):
        yield cluster


def refused(*arguments: str, cwd: Path) -> str:
    """What ``leaderjob run`` says when it does not start: one sentence, and exit code 2."""
    done = leaderjob("run", "--id", "r9", *arguments, cwd=cwd, XDG_STATE_HOME=str(cwd))
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["watch"],
        ["runs"],
        ["trigger", "search_index"],
        ["search", "anything"],
        ["query", "search_index", "{}"],
    ],
    ids=lambda command: command[0],
)
def test_an_etcd_that_is_not_there_is_named_with_the_error_and_what_to_try(
    command: list[str],
) -> None:
    first, second = free_ports(2)
    endpoints = f"127.0.0.1:{first},127.0.0.1:{second}"
    done = said([*command, "--etcd", endpoints])
    assert (done.returncode, done.stdout) == (3, "")
    for part in (str(first), str(second), "connection refused", "Check that it runs", "leaderjob demo"):
        assert part in done.stderr


def test_a_replica_does_not_start_without_etcd(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    state = ["--state-dir", str(tmp_path / "state")]
    done = leaderjob("run", "--id", "r1", "--etcd", f"127.0.0.1:{port}", *state, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    assert f"etcd is not reachable at 127.0.0.1:{port}: connection refused" in done.stderr


def test_without_any_etcd_it_is_said_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = refused("--jobs", _RESULTS, cwd=tmp_path)
    for part in ("no etcd is given", "--etcd HOST:PORT", "leaderjob demo", "apt install etcd-server"):
        assert part in sentence
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = said(["status"])
    assert done.returncode == 2
    assert "no etcd is given, and no demo is running" in done.stderr


def test_a_module_that_does_not_import_is_named_with_its_traceback_and_the_others_go_on(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    modules = f"tests.support.jobs.broken,no.such.module,{_RESULTS}"
    with one(etcd, namespace, tmp_path, modules) as cluster:
        cluster.start()
        log = cluster["r1"].log()
        assert "job_failed_to_load module=tests.support.jobs.broken" in log
        assert "No module named 'a_module_that_nobody_has'" in log
        assert "broken.py" in log
        assert "job_failed_to_load module=no.such.module" in log
        assert cluster.ended("value", cluster.trigger("value", value=1)).outcome is Outcome.SUCCEEDED


def test_two_jobs_with_one_name_are_refused_and_both_modules_named(
    etcd: EmbeddedEtcd, tmp_path: Path
) -> None:
    for module in ("mine", "yours"):
        (tmp_path / f"{module}.py").write_text("from leaderjob import job\n@job\ndef backup(ctx): ...\n")
    sentence = refused("--etcd", etcd.endpoint, "--jobs", "mine,yours", cwd=tmp_path)
    assert "two jobs are called 'backup', in 'mine' and 'yours'" in sentence


def test_a_schedule_that_cannot_be_parsed_costs_its_job_the_schedule_only(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    config = '[overrides.value]\nschedule = "61 * * * *"\n'
    with one(etcd, namespace, tmp_path, _RESULTS, config) as cluster:
        cluster.start()
        jobs = {job["name"]: job for job in cluster.status()["jobs"]}
        assert "minute" in jobs["value"]["schedule_error"]
        assert "61" in jobs["value"]["schedule_error"]
        assert jobs["value"]["next_fire"] is None
        assert jobs["files"]["schedule_error"] is None
        assert "job_schedule_invalid job=value" in cluster["r1"].log()
        assert cluster.ended("value", cluster.trigger("value", value=1)).outcome is Outcome.SUCCEEDED


def test_a_corpus_that_is_missing_or_empty_fails_the_run_and_the_last_version_stays(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    pytest.importorskip("tantivy")
    corpus, empty = tmp_path / "corpus", tmp_path / "empty"
    corpus.mkdir()
    empty.mkdir()
    (corpus / "one.md").write_text("# Elephants\n\nThe elephant never forgets.\n")
    config = '[overrides.search_index]\nschedule = ""\n'
    with one(etcd, namespace, tmp_path / "replica", "jobs.search_index", config) as cluster:
        cluster.start()
        good = cluster.ended("search_index", cluster.trigger("search_index", corpus=str(corpus)))
        assert (good.outcome, good.version) == (Outcome.SUCCEEDED, 1)
        cluster.serves("search_index", 1)
        for wrong, reason in ((tmp_path / "nowhere", "does not exist"), (empty, "nothing to index")):
            run = cluster.ended("search_index", cluster.trigger("search_index", corpus=str(wrong)))
            assert run.outcome is Outcome.FAILED
            assert str(wrong) in str(run.reason)
            assert reason in str(run.reason)
        found = json.loads(cluster.cli("search", "elephant", "--json").stdout)
        assert (found["version"], found["value"]["hits"]) == (1, 1)


def test_the_demo_refuses_a_corpus_that_does_not_exist(tmp_path: Path) -> None:
    done = said(["demo", "--corpus", str(tmp_path / "nowhere")])
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the corpus {tmp_path}/nowhere does not exist" in done.stderr


def test_a_second_replica_with_the_same_id_and_a_port_in_use_are_refused(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with one(etcd, namespace, tmp_path, _RESULTS) as cluster, socket.create_server(("127.0.0.1", 0)) as taken:
        cluster.start()
        target = [*cluster.target, "--jobs", _RESULTS]
        elsewhere = ["--state-dir", str(tmp_path / "elsewhere")]
        sentence = refused(*target, "--id", "r1", *elsewhere, cwd=tmp_path)
        assert f"replica 'r1' is already running on host {socket.gethostname()}" in sentence
        assert f"pid {cluster['r1'].process.pid}" in sentence
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        sentence = refused(*target, "--listen", address, *elsewhere, cwd=tmp_path)
        assert f"cannot listen on {address}: the port is in use" in sentence
        assert cluster.leader() is cluster["r1"]


def test_a_replica_that_was_killed_and_starts_again_leads_long_before_its_lease_runs_out(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """Nobody else is there who could tell its death: its own state directory does."""
    ttl_s = 60
    config = "[election]\ntakeover_fast = false\n"
    with (
        Cluster(
            etcd.endpoint, namespace, tmp_path, jobs=_RESULTS, names=("r1",), ttl_s=ttl_s, config=config
        ) as one,
        told(one.start()),
    ):
        before = one.view()
        one["r1"].kill()
        one.start()
        after = one.view()
        assert before.leader is not None
        assert after.leader is not None
        assert after.members["r1"].record.incarnation == after.leader.record.incarnation
        assert after.leader.record.incarnation != before.leader.record.incarnation
        assert "verdict" in one["r1"].log()
        one.until("nothing is left of the first one", lambda view: len(view.queue) == 1)


def test_a_replica_whose_id_another_live_one_takes_gives_up_office_and_ends(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """Its lease was deleted, say, or it was stopped for long, and another one was started in its place."""
    with one(etcd, namespace, tmp_path, _RESULTS) as cluster:
        cluster.start()
        other = (
            cluster.view()
            .members["r1"]
            .record.model_copy(update={"incarnation": "other", "host": "elsewhere", "pid": 4321})
        )
        with another_one("other") as address:
            moved = other.model_copy(update={"addresses": {"liveness": address}})
            cluster.put(cluster.keys.member("r1"), moved.to_bytes())
            assert cluster["r1"].process.wait(15) == 2
        log = cluster["r1"].log()
        assert "id_taken" in log
        assert "replica 'r1' is already running on host elsewhere with pid 4321" in log
        assert "give this one another --id" in log
        assert "Traceback" not in log
        view = cluster.until("it has left the election", lambda view: view.queue == [])
        assert view.members["r1"].record.incarnation == "other"


@contextmanager
def another_one(incarnation: str) -> Iterator[str]:
    """The address where another process says that this incarnation is there."""
    hello = json.dumps({"replica": "r1", "incarnation": incarnation}).encode() + b"\n"

    def greet() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # it was shut down
                return
            with connection:
                connection.sendall(hello)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeting = threading.Thread(target=greet)
        greeting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            greeting.join()


def test_a_state_directory_that_cannot_be_used_is_named(etcd: EmbeddedEtcd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong = tmp_path / "file" / "state"
    sentence = refused("--etcd", etcd.endpoint, "--jobs", _RESULTS, "--state-dir", str(wrong), cwd=tmp_path)
    assert f"the state directory {wrong} cannot be used: Not a directory" in sentence
    assert "--state-dir" in sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status", "--ectd", "x"], "--ectd"),
        (["statsu"], "No such command 'statsu'"),
        (["trigger", "j", "--params", "{", "--etcd", "a:1"], "not JSON"),
        (["query", "j", "[1]", "--etcd", "a:1"], "a JSON object is expected"),
        (["status", "--etcd", "nonsense"], "etcd endpoint 'nonsense' has no port"),
        (["status", "--etcd", "a:1", "--namespace", "No/Good"], "'No/Good' is not a name"),
        (["status", "--config", "missing.toml"], "missing.toml does not exist"),
        (["run", "--etcd", "a:1", "--ttl", "soon"], "'soon' is not a duration"),
        (["run", "--etcd", "a:1", "--ttl", "1s"], "ttl 1 s: etcd takes whole seconds, at least 2"),
        (["run", "--etcd", "a:1", "--listen", "0.0.0.0:1"], "say --insecure if the network is yours alone"),
    ],
)
def test_wrong_usage_and_settings_exit_with_2_and_name_what_is_wrong(
    arguments: list[str], sentence: str
) -> None:
    done = said(arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_a_margin_that_does_not_fit_the_ttl_keeps_a_replica_from_starting(
    etcd: EmbeddedEtcd, tmp_path: Path
) -> None:
    (tmp_path / "leaderjob.toml").write_text('[election]\nttl = "4s"\nmargin = "2s"\n')
    sentence = refused("--etcd", etcd.endpoint, "--jobs", _RESULTS, cwd=tmp_path)
    assert "margin 2s must be above 0 and below half of the ttl of 4s" in sentence


def test_a_misspelt_setting_is_named_with_the_nearest_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[election]\ntlt = 5\n")
    done = said(["status", "--config", str(wrong)])
    assert done.returncode == 2
    assert "unknown setting 'election.tlt'; did you mean election.ttl?" in done.stderr
    monkeypatch.setenv("LEADERJOB_ETCD_ENDPOINT", "a:1")
    done = said(["status"])
    assert done.returncode == 2
    assert "LEADERJOB_ETCD_ENDPOINT sets nothing; did you mean" in done.stderr


@needs("bash")
def test_whoever_stops_reading_gets_no_complaint(etcd: EmbeddedEtcd, namespace: str) -> None:
    command = f"{sys.executable} -m leaderjob status --etcd {etcd.endpoint} --namespace {namespace}"
    for reader in ("head -1", "true"):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} | {reader}"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
