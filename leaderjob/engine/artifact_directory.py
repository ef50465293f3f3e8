"""Where an attempt leaves its files: made empty before it, and removed after it, whatever the job made of it."""

import asyncio
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TIDY_WITHIN_S = 5.0


def make_empty(directory: Path) -> str | None:
    """Make the directory, empty; why that is impossible, or None."""
    try:
        for above in (directory.parent.parent, directory.parent):
            if above.is_dir():
                _permit(above)  # a job may have changed what is above its own directory, too
        remove(directory)
        directory.mkdir(parents=True)
    except OSError as error:
        return (
            f"the attempt's directory {directory} cannot be made: {error.strerror or error}. Free space on the leader's "
            "disk, or mend what is in its state directory"
        )
    return None


async def tidy(directory: Path) -> None:
    """Remove it, and wait for that; but not on a disk that hangs, for it must not keep a term from ending."""
    removing = asyncio.ensure_future(asyncio.to_thread(remove_quietly, directory))
    await asyncio.wait([removing], timeout=_TIDY_WITHIN_S)


def holds_results(directory: Path) -> bool:
    """Whether anything in the directory, or in its place, is to be published. Call once the workers are gone.

    Its directories become accessible to this process: a tree that was copied from a read-only one is published like
    any other, and its modes are not part of what is published.
    """
    try:
        if not stat.S_ISDIR(directory.lstat().st_mode):
            return True  # refused where it is taken in, by name
    except FileNotFoundError:
        return False
    pending = [directory]
    while pending:
        pending.extend(_open_up(pending.pop()))
    return any(directory.iterdir())


def remove_quietly(directory: Path) -> None:
    """As :func:`remove`; what cannot be removed stays, and disturbs nobody."""
    with suppress(OSError):
        remove(directory)


def remove(directory: Path) -> None:
    """Remove a directory tree whatever its modes and however deep it is; nothing, if it is not there.

    A directory is emptied into ``directory`` before it is removed, so no path gets long and no call nests.

    :raises OSError: something in it cannot be removed; all else is gone.
    """
    try:
        if not stat.S_ISDIR(directory.lstat().st_mode):
            directory.unlink()
            return
    except FileNotFoundError:
        return
    problems: list[OSError] = []
    pending = [directory]
    while pending:
        path = pending.pop()
        for child in _children(path, problems):
            try:
                if not stat.S_ISDIR(child.lstat().st_mode):
                    child.unlink()
                elif path == directory:
                    pending.append(child)
                else:
                    pending.append(_move_up(child, directory))
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(error)
        if path != directory:
            try:
                path.rmdir()
            except OSError as error:
                problems.append(error)
    if problems:
        raise problems[0]
    directory.rmdir()


def _move_up(path: Path, top: Path) -> Path:
    _permit(path)  # its entry ".." changes
    moved = top / f"{secrets.token_hex(8)}.tmp"
    return path.rename(moved)


def _children(directory: Path, problems: list[OSError]) -> list[Path]:
    try:
        _permit(directory)
        return list(directory.iterdir())
    except OSError as error:
        problems.append(error)
        return []


def _open_up(directory: Path) -> Iterator[Path]:
    _permit(directory)
    with os.scandir(directory) as entries:
        yield from [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _permit(directory: Path) -> None:
    """Let this process list and change a directory of its own."""
    mode = directory.lstat().st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
        directory.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
