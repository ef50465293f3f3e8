"""A replica's own directory: made, checked, and held by one process at a time."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leaderjob.atomic_files import make_directory
from leaderjob.errors import SettingsError

_LOCK = "lock"
_TEMPORARY = "tmp"


@contextmanager
def state_directory(path: Path, *, replica: str) -> Iterator[Path]:
    """The directory, for this process alone. The lock goes with the process, however that ends.

    :raises SettingsError: it cannot be made or written, or another replica uses it.
    """
    try:
        make_directory(path)
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            holder = _hold(descriptor, replica)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise SettingsError(
            f"the state directory {path} cannot be used: {error.strerror}. Make it writable for this user, free some "
            "space, or choose another --state-dir"
        ) from error
    try:
        if holder is not None:
            raise SettingsError(
                f"the state directory {path} is used by {holder}: give each replica its own --state-dir"
            )
        yield path
    finally:
        os.close(descriptor)


def provide_temporary_directory(path: Path) -> None:
    """Let this process, and the jobs that it runs, keep temporary files below ``path`` if there is no other place.

    A container may have a file system that is read-only but for its volumes, ``/tmp`` included.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        temporary = path / _TEMPORARY
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that is gone
        try:
            temporary.mkdir(exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"no directory for temporary files can be used, and {temporary} cannot be made: {error.strerror}"
            ) from error
        os.environ["TMPDIR"] = str(temporary)


def holder_of(path: Path) -> str | None:
    """Who uses the directory now; None: nobody, as far as this user may see."""
    try:
        descriptor = os.open(path / _LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _hold(descriptor: int, replica: str) -> str | None:
    """Take the lock; who has it, if somebody else does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"replica {replica!r} with pid {os.getpid()}\n".encode(), 0)
    return None


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
