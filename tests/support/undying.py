"""Commands some of whose processes do not die, as far as their guards can tell."""

import sys
from dataclasses import replace

import pytest

from leaderjob.execution import guarded


def undying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let guards report that some of what they were to kill is left."""
    read = guarded._read_report

    def read_report(line: bytes) -> guarded.Exit | None:
        report = read(line)
        return None if report is None else replace(report, reaped=False)

    monkeypatch.setattr(guarded, "_read_report", read_report)


def stops(pid: int) -> list[str]:
    """A command that asks a process to stop, and waits to be stopped itself."""
    code = f"import os, signal, time; os.kill({pid}, signal.SIGTERM); time.sleep(1000)"
    return [sys.executable, "-I", "-S", "-c", code]
