"""The note that a running demo leaves in the user's state folder, so that the other commands find it.

There is one note per user. When two demos run at once, the one that started last is found; when that
one ends, none is, though the other goes on: name its endpoint on the command line.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from leaderjob.atomic_files import write_file
from leaderjob.clock import utcnow
from leaderjob.errors import SettingsError
from leaderjob.user_state import state_folder

_FILE = "demo.json"
_START_TIME_FIELD = 22  # of /proc/<pid>/stat, counted from 1: proc(5)


@dataclass(frozen=True, slots=True)
class Running:
    """A demo that runs now.

    :param endpoints: of its etcd, ``HOST:PORT`` each.
    :param incarnation: tells its process from a later one that was given the same pid.
    """

    endpoints: tuple[str, ...]
    namespace: str
    pid: int
    started: datetime
    incarnation: str


@contextlib.contextmanager
def announced(endpoints: Sequence[str], namespace: str, *, folder: Path | None = None) -> Iterator[Running]:
    """While in this context, :func:`read_running` finds this process.

    Leaving it removes the note, unless a demo that was started later has put its own in that place.

    :raises SettingsError: the state folder cannot be written.
    """
    folder = state_folder() if folder is None else folder
    incarnation = _incarnation(os.getpid())
    if incarnation is None:
        raise SettingsError("the demo needs /proc to leave a note of itself: mount it")
    running = Running(tuple(endpoints), namespace, os.getpid(), utcnow(), incarnation)
    _write(folder, running)
    try:
        yield running
    finally:
        _remove(folder, running)


def read_running(folder: Path | None = None) -> Running | None:
    """The demo of this user that runs now, or None. The note of a process that is dead is ignored."""
    try:
        folder = state_folder() if folder is None else folder
    except SettingsError:
        return None
    running = _read(folder / _FILE)
    if running is None or _incarnation(running.pid) != running.incarnation:
        return None
    return running


def _write(folder: Path, running: Running) -> None:
    fields = asdict(running) | {"started": running.started.isoformat()}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder):
            write_file(folder / _FILE, (json.dumps(fields, indent=2) + "\n").encode())
    except OSError as error:
        raise SettingsError(
            f"the running demo cannot be noted in {folder}: {error}. The other commands would not find it: "
            "make that folder writable, or set XDG_STATE_HOME to one that is"
        ) from error


def _read(path: Path) -> Running | None:
    """A note that cannot be read or understood counts as none: it is a convenience, not a record."""
    try:
        fields = json.loads(path.read_text())
        return Running(
            endpoints=tuple(str(endpoint) for endpoint in fields["endpoints"]),
            namespace=str(fields["namespace"]),
            pid=int(fields["pid"]),
            started=datetime.fromisoformat(fields["started"]),
            incarnation=str(fields["incarnation"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remove(folder: Path, running: Running) -> None:
    with contextlib.suppress(FileNotFoundError), _locked(folder):
        if _read(folder / _FILE) == running:
            (folder / _FILE).unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Between looking whose note it is and removing it, no other demo may write its own."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _incarnation(pid: int) -> str | None:
    """What no other process has: the boot and the start time of process ``pid``; None if it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The second field, the command's name, may hold spaces and parentheses: count from behind it.
    after_name = stat[stat.rindex(")") + 2 :].split()
    state, start_time_ticks = after_name[0], after_name[_START_TIME_FIELD - 3]
    return None if state in "ZX" else f"{boot}/{start_time_ticks}"
