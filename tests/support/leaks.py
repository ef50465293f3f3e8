"""Processes that a test session left behind: its descendants, and orphans that it once started."""

import contextlib
import os
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_MARK = "TEST_SESSION"
_GUARD = "execution/start_guard.py"


@dataclass(frozen=True, slots=True)
class LeftOver:
    """A process that should be gone. ``test`` is the test that was under way when it was started."""

    pid: int
    command: str
    test: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command}), started by {self.test}"


def mark_session() -> str:
    """Put a mark into the environment that every process started from now on inherits."""
    os.environ[_MARK] = mark = secrets.token_hex(8)
    return mark


def left_over(mark: str, *, within_s: float = 4.0) -> list[LeftOver]:
    """Who is still there when ``within_s`` has passed; returns as soon as nobody is.

    Looked at twice: a process that is forked during the first look, by one that ends during it, is
    seen by the second only. Guards stay for a while when their replica was killed, to attest that nothing is
    left; asked to go, as a service manager asks, they leave once that is so.
    """
    deadline = time.monotonic() + within_s
    looks_without_any = 0
    asked: set[int] = set()
    while True:
        found = _find(mark)
        for process in found:
            if _GUARD in process.command and process.pid not in asked:
                asked.add(process.pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)
        looks_without_any = 0 if found else looks_without_any + 1
        if looks_without_any == 2 or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def end(processes: list[LeftOver]) -> None:
    """SIGKILL, so that one session does not disturb the next."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _find(mark: str) -> list[LeftOver]:
    processes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended just now
            state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                processes[int(folder.name)] = int(parent), environment
    ours = {pid for pid, (_, environment) in processes.items() if f"{_MARK}={mark}" in environment}
    found = {os.getpid()}
    while more := {pid for pid, (parent, _) in processes.items() if parent in found} - found:
        found |= more
    return [_describe(pid, processes[pid][1]) for pid in sorted((ours | found) - {os.getpid()})]


def _describe(pid: int, environment: list[str]) -> LeftOver:
    command = "?"
    with contextlib.suppress(OSError):
        command = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
    started_by = [
        entry.partition("=")[2] for entry in environment if entry.startswith("PYTEST_CURRENT_TEST=")
    ]
    return LeftOver(pid, command[:160], started_by[0] if started_by else "no test")
