"""A version's directory: hard links to objects, built, and checked against its manifest."""

import errno
import os
import shutil
import stat
from pathlib import Path

from leaderjob.atomic_files import sync_file
from leaderjob.model.artifact import FileEntry, Manifest
from leaderjob.results.digests import file_matches
from leaderjob.results.objects import Objects


def link_tree(objects: Objects, manifest: Manifest, directory: Path) -> None:
    """Fill an empty directory that is ours alone (so no link in it can lead elsewhere)."""
    made = {directory}
    for entry in manifest.files:
        target = directory / entry.path
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        source = objects.path(entry.digest)
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            # A file system has a limit on the links to one file (65,000 on ext4), and a version may
            # well have that many empty files.
            shutil.copyfile(source, target)
            target.chmod(0o444)
            sync_file(target)


def tree_problems(objects: Objects, manifest: Manifest, directory: Path) -> dict[str, str]:
    """What is wrong with each path of a version's directory. Files that readers put there do not count."""
    if not directory.is_dir():
        return {str(directory.name): "its directory is missing"}
    found = ((entry.path, _problem(objects, entry, directory)) for entry in manifest.files)
    return {path: problem for path, problem in found if problem}


def _problem(objects: Objects, entry: FileEntry, directory: Path) -> str | None:
    path = directory / entry.path
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_size != entry.size_bytes:
        return f"has {status.st_size} bytes, published were {entry.size_bytes}"
    try:
        same = os.path.samestat(status, objects.path(entry.digest).stat())
    except FileNotFoundError:
        return "its object is missing"
    if not same:
        # Usually the object was found corrupt and fetched anew, and this is still the corrupt one.
        with path.open("rb") as file:
            if not file_matches(file, entry.digest):
                return "its bytes do not match its digest"
    return None
