"""A replica that lacks jobs in force leads only where nobody has more of them."""

import http.client
import json
import time
from datetime import timedelta
from pathlib import Path

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.run import Outcome, Run
from leaderjob.records.keys import Kind
from leaderjob.records.view import View
from tests.support.replicas import SHORT_TTL_S, Cluster, Replica, leads, told, wait_for, wait_for_line

_JOBS = "tests.support.jobs.results"


def lacking(view: View, replica: str) -> tuple[str, ...] | None:
    member = view.members.get(replica)
    return member.record.lacks.jobs if member is not None and member.record.lacks is not None else None


def readiness(cluster: Cluster, replica: Replica) -> tuple[int, str]:
    address = cluster.view().members[replica.name].record.addresses["http"]
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("jobs.typo", id="typo"),
        pytest.param("tests.support.jobs.broken", id="raises", marks=pytest.mark.slow),
        pytest.param("", id="no jobs", marks=pytest.mark.slow),
    ],
)
def test_a_replica_that_lacks_jobs_gets_office_only_by_force_and_gives_it_back(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, bad: str
) -> None:
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path,
            jobs=_JOBS,
            jobs_of={"bad": bad},
            names=("good", "bad", "also-good"),
            ttl_s=SHORT_TTL_S,
        ) as cluster,
        told(cluster),
    ):
        cluster.start("good")
        cluster["bad"].start()
        view = cluster.until("it counts", lambda view: bool(lacking(view, "bad")))
        assert lacking(view, "bad") == ("files", "value")
        cluster["also-good"].start()
        cluster.until(
            "the better one goes before it",
            lambda view: [stored.record.replica for stored in view.queue] == ["good", "also-good", "bad"],
        )
        assert "letting_pass to=also-good reason='it has more of the jobs: bad lacks files, value'" in (
            cluster["bad"].log()
        )
        status, said = readiness(cluster, cluster["bad"])
        assert (status, "it lacks 2 jobs in force: files, value\n" in said) == (503 if bad else 200, True)
        assert readiness(cluster, cluster["good"]) == (200, "ready\n")
        shown = cluster.cli("status")
        assert "warning: bad lacks 2 jobs: files, value" in shown.stderr
        lacks = {member["replica"]: member["lacks"]["count"] for member in cluster.status()["members"]}
        assert lacks == {"good": 0, "bad": 2, "also-good": 0}

        refused = cluster.cli("transfer", "--to", "bad")
        assert refused.returncode == 1
        assert "bad lacks 2 jobs that it could not run as the leader (files, value)" in refused.stderr
        assert leads(cluster.view()) == "good"
        forced = cluster.cli("transfer", "--to", "bad", "--force", "--json")
        assert (forced.returncode, json.loads(forced.stdout)["replica"]) == (0, "bad")
        cluster.until("office is given back", lambda view: leads(view) not in (None, "bad"))
        wait_for_line(cluster["bad"], "also-good has more of the jobs: bad lacks files, value")


def test_a_replica_without_jobs_leads_alone_and_the_fires_it_lets_pass_are_told_as_such(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    config = f'[overrides.ticks]\nschedule = "every 1s"\nparams = {{effects = "{effects}"}}\n'
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path,
            jobs="tests.support.jobs.witnessed",
            jobs_of={"bad": "jobs.typo"},
            names=("good", "bad"),
            ttl_s=SHORT_TTL_S,
            config=config,
        ) as two,
        told(two),
    ):
        two.start("good")
        wait_for(effects)
        two["bad"].start()
        two.until("it counts", lambda view: bool(lacking(view, "bad")))
        assert two["good"].terminate() == 0
        wait_for_line(two["bad"], "leads_without_jobs")
        view = two.until("it is noted", lambda view: bool(view.records[Kind.LACKING]))
        before = view.timetable("ticks")
        noted = next(iter(view.records[Kind.LACKING].values())).record.since
        while utcnow() < noted + timedelta(
            seconds=2
        ):  # a fire is due each second, now while nobody has the job
            time.sleep(0.05)
        two["good"].start()
        two.until("it leads", lambda view: leads(view) == "good", timeout_s=30)
        assert before is not None
        watermark = before.record.watermark

        def passed(view: View) -> list[Run]:
            runs = [stored.record for stored in view.runs("ticks")]
            return [run for run in runs if run.outcome is Outcome.MISSED and run.created > watermark]

        view = two.until("they are told", lambda view: bool(passed(view)))
        reasons = [str(run.reason) for run in passed(view)]
        assert any("no replica had this job" in reason for reason in reasons), reasons
        log = two["bad"].log()
        assert "stepping_down" in log
        assert "reason='good has more of the jobs: bad lacks" in log
