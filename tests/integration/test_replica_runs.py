"""Three replicas, seen from outside: who leads, and how a trigger becomes a published result everywhere."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.verify import serves
from leaderjob.model.run import Outcome
from tests.support.commands import Lines, leaderjob, said
from tests.support.etcd import program
from tests.support.replicas import Cluster, told
from tests.support.terminal import Terminal

RESULTS, FAILING = "tests.support.jobs.results", "tests.support.jobs.failing"
_EVENTS = {
    "member_joined": {"replica", "incarnation", "host", "pid"},
    "leader_elected": {"replica", "token", "since"},
    "run_started": {"job", "run", "attempt", "replica", "token"},
    "run_progress": {"job", "run", "attempt", "done", "total", "message"},
    "run_finished": {"job", "run", "outcome", "reason", "version"},
    "published": {"job", "version", "run", "token", "digest", "size_bytes", "files", "result"},
    "activated": {"replica", "job", "version", "digest"},
}


@pytest.fixture(scope="module")
def three(etcd: EmbeddedEtcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("runs")
    with Cluster(etcd.endpoint, "runs", directory, jobs=f"{RESULTS},{FAILING}") as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(three: Cluster) -> Iterator[Cluster]:
    with told(three):
        yield three


def test_one_of_three_leads_and_status_has_the_documented_shape(cluster: Cluster) -> None:
    version = cluster.ended("files", cluster.trigger("files", text="for status")).version
    assert version is not None
    cluster.serves("files", version)
    status = cluster.status()

    assert status["namespace"] == cluster.namespace
    leader = status["leader"]
    assert leader.keys() == {"replica", "token", "since", "lease_left_s", "trust_left_s"}
    assert isinstance(leader["token"], int)
    assert datetime.fromisoformat(leader["since"]).utcoffset() is not None
    assert leader["since"].endswith("Z")
    members = {member["replica"]: member for member in status["members"]}
    assert members.keys() == {"r1", "r2", "r3"}
    roles = {name: member["role"] for name, member in members.items()}
    assert roles == {name: "leader" if name == leader["replica"] else "follower" for name in members}
    for name, member in members.items():
        assert member.keys() >= {"replica", "role", "incarnation", "pid", "addresses", "versions"}
        assert member["pid"] == cluster[name].process.pid
        assert isinstance(member["incarnation"], str)
        assert all(":" in address for address in member["addresses"].values())
        assert member["versions"]["files"] == version
    assert len({member["incarnation"] for member in members.values()}) == 3
    jobs = {job["name"]: job for job in status["jobs"]}
    assert jobs.keys() >= {"files", "value", "recovers", "reports"}
    assert jobs["files"].keys() >= {"name", "next_fire", "last_run"}
    assert jobs["files"]["next_fire"] is None
    assert jobs["files"]["last_run"]["outcome"] == "succeeded"
    assert jobs["files"]["last_run"]["version"] == version


def test_etcdctl_observes_the_leader_that_status_shows(cluster: Cluster) -> None:
    prefix = cluster.keys.election.removesuffix("/")
    etcdctl = str(program("etcdctl"))
    with Lines(etcdctl, f"--endpoints={cluster.endpoint}", "elect", "--listen", prefix) as listening:
        key = listening.until(lambda line: line.startswith(prefix))
        proclaimed = json.loads(listening.until(lambda line: line.startswith("{")))
    leader = cluster.status()["leader"]
    kv = cluster.view().leader_key
    assert kv is not None
    assert (key, proclaimed["replica"]) == (kv.key, leader["replica"])
    assert leader["token"] == kv.create_revision


def test_a_trigger_becomes_a_verified_copy_on_every_replica(cluster: Cluster) -> None:
    done = cluster.cli("trigger", "files", "--params", '{"text": "everywhere"}', "--wait", "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["outcome"] == "succeeded"
    pointer = cluster.serves("files", run["version"]).pointer("files")
    assert pointer is not None
    assert pointer.record.run == run["id"]
    assert pointer.record.result == {"text": "everywhere", "fencing_token": pointer.record.token}
    assert pointer.record.file_count == 3
    for replica in cluster.replicas.values():
        assert serves(replica.state_dir, "files", pointer.record.digest), replica.name


def test_a_trigger_prints_the_run_and_does_not_wait_unless_asked(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    done = cluster.cli("trigger", "reports", "--params", json.dumps({"gate": str(gate)}), "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run.keys() == {"job", "run"}
    gate.touch()
    assert cluster.ended("reports", run["run"]).outcome is Outcome.SUCCEEDED


def test_ctrl_c_ends_the_waiting_for_a_run_and_not_the_run(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    arguments = ["trigger", "reports", "--params", json.dumps({"gate": str(gate)}), "--wait"]
    with Terminal(*arguments, "--etcd", cluster.endpoint, "--namespace", cluster.namespace) as terminal:
        run = terminal.until(r"run (\S+) of reports was admitted")[1]
        terminal.until("running.*\u2501")  # the bar
        terminal.type("\x03")
        terminal.until(rf"run {run} goes on; 'leaderjob runs reports' shows how it ends")
        assert terminal.wait() == 130
    gate.touch()
    assert cluster.ended("reports", run).outcome is Outcome.SUCCEEDED


def test_a_trigger_that_waits_exits_with_1_where_the_run_fails(cluster: Cluster) -> None:
    done = cluster.cli("trigger", "fails_for_good", "--wait")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "there is no such table" in done.stdout


def test_a_trigger_of_an_unknown_job_exits_with_4_and_names_the_known_ones(cluster: Cluster) -> None:
    done = cluster.cli("trigger", "filez")
    assert (done.returncode, done.stdout) == (4, "")
    assert "no job is called 'filez'" in done.stderr
    assert "files" in done.stderr


def test_overlap_is_forbidden_and_the_refusal_names_the_run_that_is_active(
    cluster: Cluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    params = json.dumps({"gate": str(gate)})
    active = cluster.trigger("reports", gate=str(gate))
    refused = cluster.cli("trigger", "reports", "--params", params)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"overlap is forbidden, and run {active} is not finished" in refused.stderr
    gate.touch()
    cluster.ended("reports", active)
    assert cluster.cli("trigger", "reports", "--params", params, "--wait").returncode == 0


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ('{"text": 7}', "parameter 'text' is 7"),
        ("{}", "needs the parameter 'text'"),
        ('{"text": "x", "cuont": 2}', "no parameter 'cuont': did you mean 'count'?"),
    ],
)
def test_wrong_parameters_are_refused_and_named(cluster: Cluster, params: str, reason: str) -> None:
    refused = cluster.cli("trigger", "files", "--params", params)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert reason in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_failed_attempt_is_tried_again_and_the_run_lists_its_attempts(cluster: Cluster) -> None:
    run = cluster.ended("recovers", cluster.trigger("recovers", failures=2))
    assert run.outcome is Outcome.SUCCEEDED
    assert [attempt.number for attempt in run.attempts] == [1, 2, 3]
    assert [attempt.outcome for attempt in run.attempts] == ["failed", "failed", "succeeded"]
    assert "attempt 1 came too early" in str(run.attempts[0].reason)
    assert all(attempt.workers_gone for attempt in run.attempts)
    pointer = cluster.view().pointer("recovers")
    assert pointer is not None
    assert pointer.record.result == {"attempt": 3}


def test_an_exception_is_retried_after_a_pause_and_named_in_the_record(cluster: Cluster) -> None:
    run = cluster.ended("breaks", cluster.trigger("breaks"))
    assert [attempt.outcome for attempt in run.attempts] == [Outcome.FAILED, Outcome.FAILED]
    first, second = run.attempts
    assert first.ended is not None
    assert (second.started - first.ended).total_seconds() >= 1.0
    assert "RuntimeError: the disk is on fire" in str(run.reason)


def test_a_permanent_failure_is_not_tried_again(cluster: Cluster) -> None:
    run = cluster.ended("fails_for_good", cluster.trigger("fails_for_good"))
    assert (run.outcome, len(run.attempts)) == (Outcome.FAILED, 1)


def test_a_run_that_takes_too_long_ends_as_timed_out(cluster: Cluster) -> None:
    run = cluster.ended("too_slow", cluster.trigger("too_slow"))
    assert (run.outcome, len(run.attempts)) == (Outcome.TIMED_OUT, 1)
    assert "longer than its timeout" in str(run.reason)


def test_the_ledger_is_printed_as_json_with_attempts(cluster: Cluster) -> None:
    run = cluster.ended("recovers", cluster.trigger("recovers", failures=1))
    done = cluster.cli("runs", "recovers", "--limit", "1", "--json")
    (found,) = json.loads(done.stdout)
    assert (found["id"], found["outcome"], found["job"]) == (run.id, "succeeded", "recovers")
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["failed", "succeeded"]
    unknown = cluster.cli("runs", "nothing")
    assert (unknown.returncode, unknown.stdout) == (4, "")


def test_watchers_in_other_processes_see_progress_and_every_documented_event(
    cluster: Cluster, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with Lines(sys.executable, "-m", "leaderjob", "watch", "--json", *cluster.target) as watching:
        watching.until(lambda line: json.loads(line)["event"] == "leader_elected")
        reporting = cluster.trigger("reports", gate=str(gate))
        seen = json.loads(watching.until(lambda line: json.loads(line)["event"] == "run_progress"))
        assert (seen["job"], seen["run"]) == ("reports", reporting)
        assert (seen["done"], seen["total"], seen["message"]) == (3, 7, "three of seven")
        assert cluster.view().progress("reports", reporting) is not None
        gate.touch()
        made = cluster.ended("files", cluster.trigger("files", text="watched"))
        cluster.serves("files", made.version or 0)
        activated: set[str] = set()

        def everywhere(line: str) -> bool:
            event = json.loads(line)
            if event["event"] == "activated" and event["version"] == made.version:
                activated.add(event["replica"])
            return len(activated) == 3

        watching.until(everywhere)
        told_events = [json.loads(line) for line in watching.read]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for event in told_events:
        assert datetime.fromisoformat(event["at"]).utcoffset() is not None
        by_name.setdefault(event["event"], []).append(event)
    assert by_name.keys() == _EVENTS.keys()
    for name, fields in _EVENTS.items():
        for event in by_name[name]:
            assert event.keys() == {"at", "event"} | fields
    finished = [event for event in by_name["run_finished"] if event["run"] == made.id]
    assert [(event["outcome"], event["version"]) for event in finished] == [("succeeded", made.version)]
    assert cluster.view().progress("reports", reporting) is None


def test_a_result_without_files_is_published_too(cluster: Cluster) -> None:
    value = {"answer": 42, "words": ["ä", None]}
    run = cluster.ended("value", cluster.trigger("value", value=value))
    pointer = cluster.serves("value", run.version or 0).pointer("value")
    assert pointer is not None
    assert (pointer.record.result, pointer.record.file_count) == (value, 0)


def test_the_wrong_namespace_is_empty_and_not_an_error(cluster: Cluster) -> None:
    done = said(["status", "--etcd", cluster.endpoint, "--namespace", "nothing-here", "--json"])
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert (status["leader"], status["members"], status["jobs"]) == (None, [], [])


def test_data_goes_to_stdout_as_plain_text_where_nobody_looks(cluster: Cluster) -> None:
    cluster.ended("value", cluster.trigger("value", value=1))
    for command in ("status", "runs"):
        done = leaderjob(command, *cluster.target, TERM="xterm-256color")
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
        assert {"value", "succeeded"} <= set(done.stdout.split())
