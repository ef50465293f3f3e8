"""Log lines, for people and for machines."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from io import StringIO

import pytest

from leaderjob.clock import boottime
from leaderjob.telemetry.events import Events, emit
from leaderjob.telemetry.logs import Format, configure_logs


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, logging.getLogger("leaderjob").level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("leaderjob").setLevel(ours)


def logged(stream: StringIO, format: Format, **options: str) -> StringIO:  # noqa: A002
    configure_logs("r1", "prod", format=format, stream=stream, **options)  # type: ignore[arg-type]
    return stream


def fail(reason: str) -> None:
    raise ValueError(reason)


def test_json_lines_have_who_what_and_when_and_the_fields_of_the_event() -> None:
    out = logged(StringIO(), "json")
    emit(Events.RUN_STARTED, job="j", run="r", term=17, late_s=0.5, reason=ValueError("no"))
    line = json.loads(out.getvalue())
    assert line.pop("time").endswith("Z")
    assert 0 <= boottime() - line.pop("boottime_s") < 60
    assert line == {
        "level": "info",
        "replica": "r1",
        "namespace": "prod",
        "event": "run_started",
        "job": "j",
        "run": "r",
        "term": 17,
        "late_s": 0.5,
        "reason": "no",
    }


def test_lines_of_libraries_have_the_same_form() -> None:
    out = logged(StringIO(), "json")
    try:
        fail("inside")
    except ValueError:
        logging.getLogger("library").exception("it broke")
    line = json.loads(out.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("error", "library", "it broke")
    assert "ValueError: inside" in line["trace"]
    assert line["replica"] == "r1"


def test_a_terminal_gets_text_and_anything_else_json() -> None:
    for stream, is_json in ((StringIO(), True), (Terminal(), False)):
        logged(stream, "auto")
        emit(Events.TERM_WON, term=17)
        assert stream.getvalue().startswith("{") is is_json


def test_colour_is_for_terminals() -> None:
    plain, coloured = StringIO(), Terminal()
    for stream in (plain, coloured):
        logged(stream, "text")
        emit(Events.TERM_WON, term=17)
    assert plain.getvalue().split()[1:] == ["INFO", "r1", "term_won", "term=17"]
    assert "\x1b[" not in plain.getvalue()
    assert re.search(r"\x1b\[1mterm_won *\x1b\[0m", coloured.getvalue())


def test_a_trace_is_told_in_lines_of_its_own() -> None:
    out = logged(StringIO(), "text")
    emit(
        Events.PART_BROKEN,
        part="feed",
        reason="it is full",
        trace="Traceback:\n  here\nOSError: it is full\n",
    )
    first, *trace = out.getvalue().splitlines()
    assert first.endswith("r1 part_broken part=feed reason='it is full'")
    assert trace == ["Traceback:", "  here", "OSError: it is full"]


@pytest.mark.parametrize(("level", "told"), [("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_is_the_least_that_is_told(level: str, told: int) -> None:
    out = logged(StringIO(), "json", level=level)
    emit(Events.TERM_WON, term=17)
    emit(Events.SESSION_LOST, reason="gone")
    assert len(out.getvalue().splitlines()) == told


@pytest.mark.parametrize("format", ["text", "json"])
def test_what_is_masked_is_in_no_line(format: Format) -> None:  # noqa: A002
    out = StringIO()
    configure_logs(
        "r1", "prod", format=format, stream=out, mask=lambda line: line.replace("canary", "********")
    )
    emit(Events.CONNECTION_TROUBLE, reason="refused canary", trace="a\ncanary\nb")
    logging.getLogger("library").warning("with %s", "canary")
    try:
        fail("canary")
    except ValueError:
        logging.getLogger("library").exception("broken")
    assert "canary" not in out.getvalue()
    assert out.getvalue().count("********") >= 4


def test_a_password_of_digits_tears_no_number_apart() -> None:
    out = StringIO()
    configure_logs(
        "r1", "prod", format="json", stream=out, mask=lambda text: text.replace("1234", "********")
    )
    emit(Events.TERM_WON, term=51234, reason="refused 1234", fields=["1234"])
    line = json.loads(out.getvalue())
    assert (line["term"], line["reason"], line["fields"]) == (51234, "refused ********", ["********"])


def test_a_line_that_cannot_be_formatted_is_told_without_what_it_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = logged(StringIO(), "text")
    logging.getLogger("library").warning("%d rows", "canary")
    (line,) = out.getvalue().splitlines()
    assert re.search(r"WARNING r1 a log line cannot be told: TypeError, at .*/test_logs.py:\d+", line)
    assert "canary" not in out.getvalue() + "".join(capsys.readouterr())


def test_a_stream_that_is_closed_ends_nobody() -> None:
    out = logged(StringIO(), "text")
    out.close()
    emit(Events.TERM_WON, term=17)


def test_by_default_it_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("r1", "prod", format="text", stream=sys.stderr)
    emit(Events.TERM_WON, term=17)
    captured = capsys.readouterr()
    assert "term_won" in captured.err
    assert captured.out == ""
