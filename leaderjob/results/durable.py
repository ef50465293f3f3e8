"""Files that survive a crash whole: written aside, flushed, renamed; and the directory flushed too."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leaderjob.results.errors import NotEnoughSpace

_FULL = (errno.ENOSPC, errno.EDQUOT)
TEMPORARY_PREFIX = ".tmp-"


def temporary_beside(path: Path) -> Path:
    """A name in the same directory that nobody else uses; leftovers are known by the prefix."""
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")


def sync_directory(directory: Path) -> None:
    """Flush the entries of a directory: a rename survives a crash only after this."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush the bytes of a file that was written through another descriptor."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(top: Path) -> None:
    """Flush every directory of a tree, the deepest first; the files are flushed already."""
    for directory, _, _ in os.walk(top, topdown=False):
        sync_directory(Path(directory))


def make_directory(directory: Path) -> None:
    """Create a directory and what is missing above it, each entry flushed in its parent."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: after a crash it holds either the old bytes or the new ones."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def replace_symlink(link: Path, target: str) -> None:
    """Let ``link`` lead to ``target`` without a moment at which it leads nowhere."""
    temporary = temporary_beside(link)
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(link.parent)


def free_bytes(directory: Path) -> int:
    """What an unprivileged process may still write on this file system."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


@contextmanager
def full_disk_is_not_enough_space(directory: Path) -> Iterator[None]:
    """Turn the errors of a full disk or quota into :class:`NotEnoughSpace`; others pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NotEnoughSpace(
            f"the disk under {directory} is full ({error.strerror}): the artifact was not taken in, and what "
            "is active goes on serving; free some space or lower what retention keeps"
        ) from error
