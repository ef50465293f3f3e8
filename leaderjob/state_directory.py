"""A replica's own directory: made, checked, and held by one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leaderjob.errors import SettingsError

_LOCK = "lock"


@contextmanager
def state_directory(path: Path, *, replica: str) -> Iterator[Path]:
    """The directory, for this process alone. The lock goes with the process, however that ends.

    :raises SettingsError: it cannot be made or written, or another replica uses it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SettingsError(
            f"the state directory {path} cannot be used: {error.strerror}. Make it writable for this user, or "
            "choose another --state-dir"
        ) from error
    try:
        _hold(descriptor, path, replica)
        yield path
    finally:
        os.close(descriptor)


def _hold(descriptor: int, path: Path, replica: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        raise SettingsError(
            f"the state directory {path} is used by {holder}: give each replica its own --state-dir"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"replica {replica!r} with pid {os.getpid()}\n".encode(), 0)
