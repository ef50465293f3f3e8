"""The processes below a replica: a guard for each attempt, and the worker below it."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from leaderjob.execution.process_tree import all_pids, descendants, parent_of

_GUARD = b"execution/start_guard.py"


def guards_of(replica: int) -> list[int]:
    """The guards whose parent is that process, oldest first."""
    return sorted(pid for pid in all_pids() if parent_of(pid) == replica and _GUARD in _command_of(pid))


def workers_of(replica: int) -> list[int]:
    """What the guards of that process have started, with all that came of it."""
    return [pid for guard in guards_of(replica) for pid in descendants(guard)]


def wait_for_worker(replica: int, *, timeout_s: float = 10.0) -> int:
    """Some worker of that replica, as soon as there is one."""
    give_up_at = time.monotonic() + timeout_s
    while not (found := workers_of(replica)):
        assert time.monotonic() < give_up_at, f"replica {replica} runs no worker"
        time.sleep(0.01)
    return found[0]


def send(pids: list[int], number: signal.Signals) -> None:
    """To each of them that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Whether it still runs; one that only waits to be reaped does not."""
    with suppress(OSError):  # it ended just now
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    return False


def _command_of(pid: int) -> bytes:
    with suppress(OSError):  # it ended just now
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
