"""What Sentry is told, read from the envelopes that arrive."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sentry_sdk

from leaderjob.telemetry.events import Events
from leaderjob.telemetry.redaction import MASKED, Redaction
from leaderjob.telemetry.sentry.checkins import CheckIn, Monitor, Pace
from leaderjob.telemetry.sentry.client import Sentry
from leaderjob.telemetry.trace import Trace
from tests.support.sentry import SentryServer

_MONITORS = {"j": Monitor("prod-j", {"schedule": {"type": "crontab", "value": "@daily"}, "timezone": "UTC"})}
_STARTED = {"job": "j", "run": "r", "attempt": 1, "term": 17, "cause": "schedule"}
_FINISHED = {"job": "j", "run": "r", "term": 17, "cause": "schedule", "outcome": "succeeded", "seconds": 2.5}


@contextmanager
def reporting(
    dsn: str, *, environment: str | None = "tests", redaction: Redaction | None = None
) -> Iterator[Sentry]:
    sentry = Sentry(
        dsn,
        environment=environment,
        release="1.2.3",
        replica="r1",
        namespace="prod",
        mask=(redaction or Redaction()).mask,
    )
    sentry.watch(_MONITORS)
    try:
        yield sentry
    finally:
        sentry.close(0.2)
        sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture
def server() -> Iterator[SentryServer]:
    with SentryServer() as server:
        yield server


def failing(message: str) -> None:
    canary_in_a_variable = message
    raise LookupError(canary_in_a_variable)


def failure(message: str) -> Trace:
    try:
        failing(message)
    except LookupError as error:
        return Trace.of(error)
    raise AssertionError("it must fail")


def error_sent(server: SentryServer, event: Events, **fields: Any) -> dict[str, Any]:
    with reporting(server.dsn) as sentry:
        sentry.tell(event, fields)
        return server.wait(1, "event")[0]


def test_a_failed_run_is_the_exception_of_the_job_with_its_frames(server: SentryServer) -> None:
    trace = failure("no such row")
    error = error_sent(
        server, Events.RUN_FAILED, job="j", run="r", term=17, outcome="failed", reason="x", trace=trace
    )
    (exception,) = error["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("LookupError", "no such row")
    frame = exception["stacktrace"]["frames"][-1]
    assert (frame["function"], frame["abs_path"]) == ("failing", __file__)
    assert frame["context_line"].strip() == "raise LookupError(canary_in_a_variable)"
    assert error["tags"] == {
        "event": "run_failed",
        "replica": "r1",
        "namespace": "prod",
        "job": "j",
        "run": "r",
        "term": "17",
        "outcome": "failed",
    }
    assert error["extra"]["traceback"] == trace
    assert (error["release"], error["environment"]) == ("leaderjob@1.2.3", "tests")


def test_an_error_without_a_traceback_is_a_message(server: SentryServer) -> None:
    error = error_sent(server, Events.STORE_WENT_BACK, reason="revision 5, and 9 was seen")
    assert error["message"] == "store_went_back: revision 5, and 9 was seen"
    assert error["fingerprint"] == ["store_went_back"], "or each revision would be an issue of its own"
    assert "exception" not in error


def test_an_error_that_is_its_own_reason_has_its_frames(server: SentryServer) -> None:
    try:
        failing("damaged")
    except LookupError as error:
        sent = error_sent(server, Events.SERVING_FAILED, job="j", reason=error)
    assert sent["exception"]["values"][0]["stacktrace"]["frames"][-1]["function"] == "failing"


def test_errors_of_different_jobs_are_different_issues(server: SentryServer) -> None:
    with reporting(server.dsn) as sentry:
        for job in ("a", "b"):
            sentry.tell(Events.RUN_FAILED, {"job": job, "outcome": "timed_out", "reason": "too long"})
        first, second = server.wait(2, "event")
    assert first["fingerprint"] != second["fingerprint"]


def test_what_is_no_error_is_not_reported(server: SentryServer) -> None:
    with reporting(server.dsn) as sentry:
        for event in Events:
            if event not in (Events.RUN_STARTED, Events.RUN_FINISHED):
                sentry.tell(event, {"job": "j"})
        sentry.tell(Events.RUN_STARTED, _STARTED)
        # The last one sent is the last one to arrive.
        server.wait(1, "check_in")
    errors = {event.name.lower() for event in Events if event.level >= logging.ERROR}
    assert {error["tags"]["event"] for error in server.errors()} == errors
    assert "store_went_back" in errors


def test_a_secret_is_in_no_report(server: SentryServer) -> None:
    redaction = Redaction()
    with reporting(server.dsn, redaction=redaction) as sentry:
        redaction.add("canary-4711")
        sentry.tell(
            Events.RUN_FAILED,
            {
                "job": "j",
                "reason": "at http://me:canary-4711@host",
                "other": "canary-4711",
                "trace": failure("canary-4711"),
            },
        )
        sentry.tell(Events.STORE_WENT_BACK, {"reason": "canary-4711"})
        sent = str(server.wait(2, "event"))
    assert "canary-4711" not in sent
    assert sent.count(MASKED) >= 4


def test_a_run_of_a_schedule_checks_in_and_out_with_the_monitor(server: SentryServer) -> None:
    with reporting(server.dsn) as sentry:
        sentry.tell(Events.RUN_STARTED, _STARTED)
        sentry.tell(Events.RUN_FINISHED, _FINISHED)
        began, ended = server.wait(2, "check_in")
    assert (began["status"], ended["status"], ended["duration"]) == ("in_progress", "ok", 2.5)
    assert began["check_in_id"] == ended["check_in_id"]
    assert began["monitor_config"] == ended["monitor_config"] == _MONITORS["j"].config
    assert {began["monitor_slug"], ended["monitor_slug"]} == {"prod-j"}
    assert {began["environment"], ended["environment"]} == {"tests"}


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("succeeded", "ok"),
        ("superseded", "ok"),
        ("failed", "error"),
        ("timed_out", "error"),
        ("cancelled", "error"),
        ("abandoned", "error"),
    ],
)
def test_the_outcome_of_a_run_decides_its_check_in(server: SentryServer, outcome: str, status: str) -> None:
    with reporting(server.dsn) as sentry:
        sentry.tell(Events.RUN_FINISHED, _FINISHED | {"outcome": outcome})
        assert server.wait(1, "check_in")[0]["status"] == status


def test_a_job_that_fails_again_and_again_does_not_use_up_what_a_monitor_may_send() -> None:
    monitor = _MONITORS["j"]
    began, ended = CheckIn("a", monitor, "in_progress"), CheckIn("a", monitor, "error", 1.0)
    pace = Pace()
    assert [pace.allows(began, now_s=now_s) for now_s in (0.0, 1.0, 29.0, 31.0, 60.0)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert pace.allows(ended, now_s=60.0)
    assert pace.allows(CheckIn("b", monitor, "in_progress"), now_s=60.1), "another run"


@pytest.mark.parametrize("changed", [{"cause": "trigger"}, {"job": "without-a-monitor"}])
def test_what_no_schedule_asked_for_does_not_check_in(server: SentryServer, changed: dict[str, str]) -> None:
    with reporting(server.dsn) as sentry:
        sentry.tell(Events.RUN_STARTED, _STARTED | changed)
        sentry.tell(Events.RUN_STARTED, _STARTED | {"run": "another"})
        server.wait(1, "check_in")
    assert len(server.check_ins()) == 1


def test_another_leader_goes_on_with_the_check_in_and_another_cluster_does_not(server: SentryServer) -> None:
    ids = []
    for environment in ("tests", "tests", "staging", None):
        with reporting(server.dsn, environment=environment) as sentry:
            sentry.tell(Events.RUN_STARTED, _STARTED | {"attempt": 2})
            ids.append(server.wait(len(ids) + 1, "check_in")[-1]["check_in_id"])
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("status", [None, 500, 429], ids=["never answers", "500", "429"])
def test_a_server_that_fails_costs_neither_time_nor_errors(status: int | None) -> None:
    with SentryServer(status) as server, reporting(server.dsn) as sentry:
        sentry.tell(Events.RUN_STARTED, _STARTED)
        server.wait(1, "check_in")
        began_at = time.monotonic()
        for _ in range(300):
            sentry.tell(Events.RUN_FAILED, _STARTED | {"reason": "x"})
        told_within_s = time.monotonic() - began_at
        began_at = time.monotonic()
        sentry.close(0.5)
        closed_within_s = time.monotonic() - began_at
    # Waiting for the server would take 300 times as long as each of them waits, and closing for ever.
    assert told_within_s < 20.0
    assert closed_within_s < 10.0


def test_a_server_that_is_not_there_costs_neither_time_nor_errors() -> None:
    with SentryServer() as gone:
        dsn = gone.dsn
    with reporting(dsn) as sentry:
        began_at = time.monotonic()
        sentry.tell(Events.RUN_STARTED, _STARTED)
        sentry.tell(Events.RUN_FAILED, _STARTED | {"reason": "x"})
        sentry.close(0.5)
        assert time.monotonic() - began_at < 1.5
