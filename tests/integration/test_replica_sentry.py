"""Replicas report to Sentry, and do not depend on it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.job import Timetable
from leaderjob.model.run import Outcome
from leaderjob.telemetry.redaction import MASKED
from tests.support.commands import leaderjob
from tests.support.replicas import Cluster, gone_within, told, wait_for, wait_for_line
from tests.support.sentry import SentryServer


@contextmanager
def reporting(
    etcd: EmbeddedEtcd, namespace: str, directory: Path, dsn: str, *names: str
) -> Iterator[Cluster]:
    """Replicas of which one begins a run of ``hourly`` as soon as it leads: a fire is due."""
    config = (
        f'[sentry]\ndsn = "{dsn}"\nenvironment = "tests"\n'
        f'[overrides.hourly.params]\nbegun = "{directory / "begun"}"\ngate = "{directory / "gate"}"\n'
    )
    jobs = "tests.support.jobs.monitored"
    with Cluster(etcd.endpoint, namespace, directory, jobs=jobs, names=names, config=config) as cluster:
        due = Timetable(watermark=utcnow() - timedelta(hours=1), schedule=("@hourly",))
        cluster.put(cluster.keys.timetable("hourly"), due.to_bytes())
        with told(cluster):
            yield cluster.start()


def test_a_failed_run_of_a_schedule_is_an_error_of_the_job_and_of_its_monitor(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with SentryServer() as sentry, reporting(etcd, namespace, tmp_path, sentry.dsn, "r1") as cluster:
        run = wait_for(tmp_path / "begun")
        (tmp_path / "gate").write_text("no such row")
        done = cluster.ended("hourly", run)
        assert done.outcome is Outcome.FAILED
        (error,) = sentry.wait(1, "event")
        (exception,) = error["exception"]["values"]
        assert (exception["type"], exception["value"]) == ("LookupError", "no such row")
        assert [frame["function"] for frame in exception["stacktrace"]["frames"]] == ["hourly"]
        assert error["tags"]["job"] == "hourly"
        assert error["tags"]["run"] == run
        assert error["tags"]["replica"] == "r1"
        assert error["tags"]["term"] == str(done.attempts[-1].token)
        began, ended = sentry.wait(2, "check_in")
        assert began["status"] == "in_progress", "once for both attempts"
        assert ended["status"] == "error"
        assert ended["duration"] == pytest.approx(
            (done.ended - done.attempts[0].started).total_seconds() if done.ended else None, abs=0.01
        )
        assert len({check_in["check_in_id"] for check_in in (began, ended)}) == 1
        assert ended["monitor_slug"] == f"{namespace}-hourly"
        assert ended["monitor_config"] == {
            "schedule": {"type": "crontab", "value": "0 * * * *"},
            "timezone": "UTC",
            "checkin_margin": 28 * 24 * 60,
            "max_runtime": 61,
        }
        log = cluster["r1"].log()
        assert log.count("LookupError: no such row\n") == 2, "once for each attempt"
        assert "attempt_failed" in log
        assert "run_failed" in log
        assert "publickey" not in log


def test_the_run_of_a_leader_that_is_killed_goes_on_with_its_check_in(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with SentryServer() as sentry, reporting(etcd, namespace, tmp_path, sentry.dsn, "r1", "r2") as cluster:
        run = wait_for(tmp_path / "begun")
        sentry.wait(1, "check_in", status="in_progress")
        killed = cluster.watched().leader()
        killed.kill()
        cluster.next_leader(killed.name)
        (tmp_path / "gate").touch()
        done = cluster.ended("hourly", run, timeout_s=30)
        assert [attempt.outcome for attempt in done.attempts] == [Outcome.ABANDONED, Outcome.SUCCEEDED]
        sentry.wait(1, "check_in", status="ok")
        check_ins = sentry.check_ins(f"{namespace}-hourly")
        assert [check_in["status"] for check_in in check_ins] == ["in_progress", "in_progress", "ok"]
        assert len({check_in["check_in_id"] for check_in in check_ins}) == 1
        assert sentry.errors() == []


def test_secrets_are_masked_in_logs_and_reports_from_the_first_line_on(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text('raise RuntimeError("canary-4711, and publickey")\n')
    with SentryServer() as sentry:
        config = f'[etcd]\nusername = "me"\npassword = "canary-4711"\n[sentry]\ndsn = "{sentry.dsn}"\n'
        with Cluster(
            etcd.endpoint, namespace, tmp_path, jobs="broken", names=("r1",), config=config
        ) as cluster:
            cluster["r1"].start()
            (report,) = sentry.wait(1, "event")
            wait_for_line(cluster["r1"], " replica_started ")
            for told_of_it in (str(report), cluster["r1"].log()):
                assert f"RuntimeError: {MASKED}, and {MASKED}" in told_of_it
                assert "canary-4711" not in told_of_it
                assert "publickey" not in told_of_it


@pytest.mark.parametrize(
    "status", [None, pytest.param(500, marks=pytest.mark.slow)], ids=["never answers", "500"]
)
def test_a_sentry_that_fails_delays_neither_a_run_nor_the_end_of_a_replica(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, status: int | None
) -> None:
    with SentryServer(status) as sentry, reporting(etcd, namespace, tmp_path, sentry.dsn, "r1") as cluster:
        run = wait_for(tmp_path / "begun")
        sentry.wait(1, "check_in")
        (tmp_path / "gate").touch()
        done = cluster.ended("hourly", run, timeout_s=5)
        assert done.outcome is Outcome.SUCCEEDED
        asked_at = time.monotonic()
        assert cluster["r1"].terminate() == 0
        # It waits 2 s for Sentry, and its own end takes a moment.
        assert time.monotonic() - asked_at < 5.0
        assert gone_within(cluster["r1"].process.pid, 0.0)
        assert "failed on" not in cluster["r1"].log(), "no listener broke"


def test_a_replica_that_cannot_start_says_so_in_one_line_of_json_and_to_sentry(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.write_text("a file where a directory should be")
    with SentryServer() as sentry:
        target = ["--etcd", etcd.endpoint, "--namespace", namespace, "--id", "r1", "--state-dir", str(state)]
        done = leaderjob(
            "run", *target, cwd=tmp_path, LEADERJOB_LOG_FORMAT="json", LEADERJOB_SENTRY_DSN=sentry.dsn
        )
        (report,) = sentry.wait(1, "event")
    (line,) = (json.loads(line) for line in done.stderr.splitlines())
    assert (done.returncode, line["event"], line["level"]) == (2, "replica_failed", "error")
    assert "cannot be used" in line["reason"]
    assert report["tags"]["event"] == "replica_failed"
