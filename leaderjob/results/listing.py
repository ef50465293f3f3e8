"""What is in an artifact directory: regular files only, everything else is refused by name."""

import os
import stat
from pathlib import Path

from pydantic import ValidationError

from leaderjob.model.artifact import MAX_FILES, FileEntry, Manifest
from leaderjob.results.digests import digest_bytes
from leaderjob.results.errors import Unpublishable
from leaderjob.results.manifest import explain, path_problem

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)
_EMPTY = digest_bytes(b"")


def publishable_files(job: str, run: str, directory: Path) -> list[str]:
    """The paths below ``directory``, relative and sorted, once it is sure that all can be published.

    Nothing is opened. Empty directories leave no trace in a manifest.

    :raises Unpublishable: not a directory, something that is no regular file, or a path that a manifest
        cannot carry.
    """
    if directory.is_symlink() or not directory.is_dir():
        raise Unpublishable(f"{directory} is not a directory: a run publishes the files of a directory")
    found: list[str] = []
    _walk(directory, "", found)
    found.sort()
    try:
        entries = tuple(FileEntry(path=path, size_bytes=0, digest=_EMPTY, piece_digests=()) for path in found)
        Manifest(job=job, run=run, files=entries)
    except ValidationError as error:
        raise Unpublishable(f"nothing of {directory} was published: {explain(error)}; rename it") from error
    return found


def _walk(directory: Path, above: str, found: list[str]) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            path = f"{above}{entry.name}"
            problem = path_problem(path)
            if problem:
                raise Unpublishable(f"nothing of {directory} was published: {problem}; rename it")
            if entry.is_dir(follow_symlinks=False):
                _walk(Path(entry.path), f"{path}/", found)
            elif entry.is_file(follow_symlinks=False):
                found.append(path)
            else:
                raise Unpublishable(
                    f"{path!r} in the artifact directory is {_kind(entry)}: only regular files are published; "
                    "remove it or write its content as a file"
                )
            if len(found) > MAX_FILES:
                raise Unpublishable(f"more than {MAX_FILES} files: put small files together into larger ones")


def _kind(entry: os.DirEntry[str]) -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    return next((name for test, name in _KINDS if test(mode)), "neither file nor directory")
