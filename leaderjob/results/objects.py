"""Content-addressed objects: ``objects/<algorithm>/<first two digits>/<hex digest>``, never changed.

The lock is held for the whole of a sweep and for each change of what is held, so a sweep sees a digest
either as held or as not wanted by anyone: what is asked for *after* holding it cannot vanish any more.
"""

import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from leaderjob.atomic_files import make_directory, sync_directory
from leaderjob.model.artifact import valid_digest
from leaderjob.results.digests import file_matches
from leaderjob.results.errors import ObjectMissing

KEPT_ASIDE = 4


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed. ``size_bytes`` counts what no hard link keeps on the disk."""

    objects: int
    size_bytes: int


class Objects:
    """The objects below ``root``, and who needs them right now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"
        self._staging = root / "staging"
        self._aside = root / "quarantine"
        # Re-entrant: a sweep that meets a corrupt manifest moves it aside.
        self._lock = threading.RLock()
        self._held: Counter[str] = Counter()
        for directory in (self._objects, self._staging, self._aside):
            make_directory(directory)

    def path(self, digest: str) -> Path:
        """Where the object is, or would be. :raises ObjectMissing: that is no digest."""
        if not valid_digest(digest):
            raise ObjectMissing(repr(digest)[:100])
        algorithm, _, hexadecimal = digest.partition(":")
        return self._objects / algorithm / hexadecimal[:2] / hexadecimal

    def size_bytes(self, digest: str) -> int | None:
        """The size of the object, None if it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, digest: str) -> BufferedReader:
        """The object, for reading; what was opened stays readable when the object is removed.

        :raises ObjectMissing: it is not here.
        """
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise ObjectMissing(digest) from None

    @contextmanager
    def hold(self, digests: Iterable[str]) -> Iterator[None]:
        """No sweep removes these objects meanwhile, whether they are here already or not."""
        held = tuple(digests)
        with self._lock:
            self._held.update(held)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(held)
                for digest in held:
                    if not self._held[digest]:
                        del self._held[digest]

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A directory of one's own on the same file system, removed at the end."""
        directory = self._staging / secrets.token_hex(8)
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(directory)

    def place(self, staged: Path, digest: str) -> None:
        """Make a flushed file, whose digest was verified, the object. Where one is, the good one stays."""
        target = self.path(digest)
        if self.is_sound(digest):
            staged.unlink()
            return
        make_directory(target.parent)
        staged.replace(target)

    def is_sound(self, digest: str) -> bool:
        """Re-hash one object. One that is not what its name says is moved aside, to be fetched again."""
        try:
            file = self.open(digest)
        except ObjectMissing:
            return False
        with file:
            if file_matches(file, digest):
                return True
            self._set_aside(digest, os.fstat(file.fileno()))
            return False

    def sync(self, digests: Collection[str]) -> None:
        """Flush every directory on the way to these objects."""
        leaves = {self.path(digest).parent for digest in digests}
        for directory in sorted(leaves | {leaf.parent for leaf in leaves} | {self._objects}):
            if directory.is_dir():
                sync_directory(directory)

    def sweep(self, live: Callable[[], Collection[str]]) -> Swept:
        """Remove every object that is neither held nor in ``live()``, which is asked under the lock."""
        count = size_bytes = 0
        with self._lock:
            wanted = set(live()) | set(self._held)
            for path in list(self._objects.glob("*/*/*")):
                if f"{path.parent.parent.name}:{path.name}" in wanted:
                    continue
                status = path.stat()
                path.unlink()
                count += 1
                size_bytes += status.st_size if status.st_nlink == 1 else 0
        aside = sorted(self._aside.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in aside[KEPT_ASIDE:]:
            path.unlink(missing_ok=True)
        return Swept(count, size_bytes)

    def clear_leftovers(self) -> None:
        """Remove what a process that was killed left half-done. Only the store's owner may call this."""
        for path in self._staging.iterdir():
            shutil.rmtree(path)

    def _set_aside(self, digest: str, seen: os.stat_result) -> None:
        path = self.path(digest)
        with self._lock:
            # Another thread may have put a sound one in its place while this one was being read.
            if path.exists() and os.path.samestat(path.stat(), seen):
                path.replace(self._aside / digest.replace(":", "-"))
