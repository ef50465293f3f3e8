"""Files that survive a crash whole: written under another name, flushed, renamed, and the directory flushed too.

Everything that leaderjob keeps on disk is written this way. A rename that is not flushed may be gone after a power
failure, although what was concluded from it is in etcd. Errors are the ``OSError`` that the system gave.
"""

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"
_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP)
"""How file systems answer that have no way to flush a directory."""


def temporary_beside(path: Path) -> Path:
    """A name in the same directory that nobody else uses; leftovers are known by the prefix."""
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")


def sync_directory(directory: Path) -> None:
    """Flush the entries of a directory: a rename survives a crash only after this."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
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
    if os.path.lexists(directory):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: after a crash it holds either the old bytes or the new ones.

    Only one thread at a time may write the same file.
    """
    # Always the same name: what a crash leaves there is overwritten by the next write, and does not pile up.
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one that says what is wrong
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
