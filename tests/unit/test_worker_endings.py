"""Whatever a job raises, a worker says how it ended; and progress may be reported from anywhere."""

import os
import threading
from pathlib import Path

import pytest

from leaderjob.execution.channel import Channel, Progress
from leaderjob.execution.protocol import from_line
from leaderjob.model.run import Outcome
from tests.unit.test_worker import run


@pytest.mark.parametrize(
    ("how", "reason", "permanent"),
    [
        ("a name of millions", "gone", True),
        ("no name", "an exception whose class has no name: gone", False),
        ("no delay", "the job raised an exception that cannot be described: no delay", False),
        ("no cause", "Uncaused: gone", False),
        ("a status of thousands of digits", "an exception that cannot be described", False),
        ("closed streams", "the job called sys.exit() with a message: no such table", False),
        ("a frame without a proper name", "ZeroDivisionError: division by zero", False),
    ],
)
def test_reason_is_told_whatever_the_exception_is_made_of(
    tmp_path: Path, how: str, reason: str, permanent: bool
) -> None:
    end = run(tmp_path, "endings:ends", how=how)
    assert (end.outcome, end.reaped, end.permanent) == (Outcome.FAILED, True, permanent)
    assert reason in (end.reason or "")


def test_result_is_sent_as_it_was_checked(tmp_path: Path) -> None:
    end = run(tmp_path, "endings:returns_what_changes")
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, {"rows": 1})


def test_signal_handler_may_report_progress_that_interrupts_a_report(tmp_path: Path) -> None:
    end = run(tmp_path, "endings:reports_from_a_signal_handler", times=50)
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, 50)


def test_report_within_a_report_does_not_wait_for_it() -> None:
    told: list[object] = []

    def send(message: object) -> None:
        told.append(message)
        if len(told) == 1:
            progress.report({"done": 2, "total": 2, "message": ""})

    progress = Progress(send, interval_s=0.0)
    reporting = threading.Thread(
        target=progress.report, args=({"done": 1, "total": 2, "message": ""},), daemon=True
    )
    reporting.start()
    reporting.join(30)
    assert not reporting.is_alive()
    assert len(told) == 2


def test_message_sent_within_a_message_follows_it_whole() -> None:
    class Interrupted(Channel):
        def _write(self, line: memoryview) -> None:
            if b"outer" in line.tobytes():
                super()._write(line[:5])
                self.send({"type": "inner"})
                line = line[5:]
            super()._write(line)

    reader, writer = os.pipe()
    channel = Interrupted(writer)
    sending = threading.Thread(target=channel.send, args=({"type": "outer"},), daemon=True)
    sending.start()
    sending.join(30)
    assert not sending.is_alive()
    os.close(writer)
    with os.fdopen(reader, "rb") as received:
        assert [from_line(line)["type"] for line in received] == ["outer", "inner"]


def test_forked_process_does_not_hold_the_channel_open() -> None:
    reader, writer = os.pipe()
    Channel(writer)
    pid = os.fork()
    if pid == 0:
        try:
            os.fstat(writer)
        except OSError:
            os._exit(0)
        os._exit(1)
    os.close(reader)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
