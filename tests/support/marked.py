"""Finds the processes that a test started, wherever they went, by a mark in their environment."""

import os
import secrets
import select
import time
from pathlib import Path

import pytest

_NAME = "TEST_MARK"


def put_mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """Mark every process that is started from now on, by this test and by what it starts."""
    mark = secrets.token_hex(8)
    monkeypatch.setenv(_NAME, mark)
    return mark


def alive(mark: str) -> list[int]:
    """The marked processes that are more than zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{_NAME}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if marked and (folder / "stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z":
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def left_after(mark: str, *, within_s: float) -> list[int]:
    """Waits until no marked process is alive; what is returned still was when the time was up."""
    until = time.monotonic() + within_s
    while (pids := alive(mark)) and time.monotonic() < until:
        _wait_for_end(pids[0], until - time.monotonic())
    return pids


def _wait_for_end(pid: int, timeout_s: float) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [], timeout_s)
    finally:
        os.close(descriptor)
