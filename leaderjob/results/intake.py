"""The only door through which objects enter a store: prepared aside, flushed, then renamed.

What was put or announced is held against sweeps until the intake is closed; closing it flushes the
directories, so whatever it let in survives a crash from then on.
"""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.atomic_files import sync_file
from leaderjob.results.digests import BLAKE3, FileDigests, digest_file, read_pieces
from leaderjob.results.objects import Objects


class Intake:
    """``with Intake(objects) as intake:``; for one thread.

    :param check: called between the pieces of each file that is moved in; ends the work by raising.
    """

    def __init__(self, objects: Objects, *, check: Callable[[], None] = lambda: None) -> None:
        self._objects = objects
        self._check = check
        self._digests: set[str] = set()
        self._stack = ExitStack()
        self._count = 0

    def __enter__(self) -> Self:
        self._directory = self._stack.enter_context(self._objects.staging())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:
            # After a failure too: what is in place counts as present the next time.
            self._objects.sync(self._digests)

    def announce(self, digests: Iterable[str]) -> None:
        """Hold these objects from now on: those that are here stay, and those to come will."""
        new = set(digests) - self._digests
        self._stack.enter_context(self._objects.hold(new))
        self._digests |= new

    def new_path(self) -> Path:
        """A path for a file in preparation."""
        self._count += 1
        return self._directory / str(self._count)

    def put(self, staged: Path, digest: str) -> None:
        """Let a prepared file in; its bytes were verified against ``digest`` by the caller."""
        self.announce([digest])
        staged.chmod(0o444)
        sync_file(staged)
        self._objects.place(staged, digest)

    def put_bytes(self, content: bytes, digest: str) -> None:
        """Let ``content`` in, whose digest the caller verified."""
        staged = self.new_path()
        staged.write_bytes(content)
        self.put(staged, digest)

    def take(self, source: Path) -> FileDigests:
        """Move a regular file in, and say what is in it; the source is gone afterwards.

        A file that has other names, or is on another file system, is copied: whoever holds the other
        name could change it. One that *is* an object already (a job linked it from the last version)
        is not.
        """
        if source.lstat().st_nlink > 1:
            digests = self._digests_of(source)
            target = self._objects.path(digests.digest)
            if target.exists() and target.samefile(source):
                self.announce([digests.digest])
                source.unlink()
                return digests
        staged = self.new_path()
        self._bring(source, staged)
        staged.chmod(0o444)  # readable, whatever mode the job chose
        digests = self._digests_of(staged)
        self.put(staged, digests.digest)
        return digests

    def _bring(self, source: Path, staged: Path) -> None:
        if source.lstat().st_nlink == 1:
            try:
                source.rename(staged)
                return
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
        with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file, staged.open("xb") as copy:
            for piece in read_pieces(file):
                self._check()
                copy.write(piece)
        source.unlink()

    def _digests_of(self, path: Path) -> FileDigests:
        with path.open("rb") as file:
            return digest_file(file, BLAKE3, check=self._check)
