"""What the events of a replica amount to in its metrics, read back as Prometheus reads them."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from leaderjob.model.run import Outcome
from leaderjob.telemetry.events import Events, emit, listen
from leaderjob.telemetry.metrics import JobState, Metrics, Snapshot

_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def metrics(snapshot: Snapshot | None = None) -> Metrics:
    return Metrics(replica="r1", namespace="n", release="1", snapshot=lambda: snapshot or Snapshot())


def samples(of: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(of.exposition().decode())
        for sample in family.samples
    }


def value(of: Metrics, name: str, **labels: str) -> float | None:
    return samples(of).get((name, frozenset(labels.items())))


def test_each_fire_counts_once_with_what_became_of_it() -> None:
    counted = metrics()
    end = listen(counted.tell)
    try:
        emit(
            Events.FIRES_REFUSED,
            job="j",
            outcome=Outcome.MISSED,
            count=7,
            reason="some words",
            code="misfire",
        )
        emit(Events.FIRES_REFUSED, job="j", run="r", reason="its key is occupied")
        emit(Events.RUN_FINISHED, job="j", run="r", outcome=Outcome.SUCCEEDED, seconds=2.0)
        emit(
            Events.RUN_FINISHED,
            job="j",
            run="s",
            outcome=Outcome.FAILED,
            reason="some other words",
            seconds=3.0,
        )
    finally:
        end()
    emit(Events.RUN_FINISHED, job="j", run="t", outcome=Outcome.FAILED, seconds=3.0)
    assert value(counted, "leaderjob_fires_total", job="j", outcome="missed", reason="misfire") == 7
    assert value(counted, "leaderjob_fires_total", job="j", outcome="succeeded", reason="") == 1
    assert value(counted, "leaderjob_fires_total", job="j", outcome="failed", reason="") == 1
    assert value(counted, "leaderjob_run_duration_seconds_sum", job="j", outcome="failed") == 3.0
    assert len([name for name, _ in samples(counted) if name == "leaderjob_fires_total"]) == 3


def test_lateness_is_that_of_the_first_attempt_alone() -> None:
    counted = metrics()
    counted.tell(Events.RUN_STARTED, {"job": "j", "late_s": 0.3})
    counted.tell(Events.RUN_STARTED, {"job": "j"})
    assert value(counted, "leaderjob_run_lateness_seconds_count", job="j") == 1
    assert value(counted, "leaderjob_run_lateness_seconds_bucket", job="j", le="0.25") == 0
    assert value(counted, "leaderjob_run_lateness_seconds_bucket", job="j", le="0.5") == 1


def test_gauges_tell_the_state_of_this_moment() -> None:
    jobs = {"j": JobState(served_version=3, published_version=4, version_age_s=5.5), "new": JobState()}
    told = metrics(Snapshot(is_leader=True, term_age_s=1.5, trust_left_s=7.0, members=3, jobs=jobs))
    assert value(told, "leaderjob_is_leader") == 1
    assert value(told, "leaderjob_term_age_seconds") == 1.5
    assert value(told, "leaderjob_trust_left_seconds") == 7.0
    assert value(told, "leaderjob_members") == 3
    assert value(told, "leaderjob_served_version", job="j") == 3
    assert value(told, "leaderjob_published_version", job="j") == 4
    assert value(told, "leaderjob_version_age_seconds", job="j") == 5.5
    assert value(told, "leaderjob_served_version", job="new") is None
    assert value(told, "leaderjob_info", replica="r1", namespace="n", release="1") == 1


def test_gauges_of_a_state_that_cannot_be_told_are_left_out_and_counters_are_not() -> None:
    told = Metrics(replica="r1", namespace="n", release="1", snapshot=lambda: None)
    told.tell(Events.TERM_WON, {})
    assert value(told, "leaderjob_terms_total") == 1
    assert value(told, "leaderjob_is_leader") is None
    assert value(told, "leaderjob_trust_left_seconds") is None


def test_the_page_names_what_there_is() -> None:
    full = metrics(Snapshot(jobs={"j": JobState(1, 1, 1.0, 1.0)}))
    full.tell(Events.RUN_STARTED, {"job": "j", "late_s": 0.3})
    full.tell(Events.RUN_FINISHED, {"job": "j", "outcome": "failed", "seconds": 1.0})
    told = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(full.exposition().decode())
        if family.name.startswith("leaderjob_") and not family.name.endswith("_created")
    }
    assert set(re.findall(r"^\| `(leaderjob_\w+)`", _PAGE.read_text(), re.MULTILINE)) == told


def test_a_listener_that_breaks_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Events] = []

    def broken(event: Events, fields: object) -> None:
        raise ValueError("broken")

    ends = [listen(broken), listen(lambda event, fields: heard.append(event))]
    try:
        emit(Events.TERM_WON, term=1)
    finally:
        for end in ends:
            end()
    assert heard == [Events.TERM_WON]
    assert "a listener failed on term_won" in caplog.text
