"""Fetch an artifact from other replicas: the manifest, then the objects that are missing here.

Each piece is verified before it is written on, and each file before it becomes an object, so a source
cannot harm this replica; it can only be useless. What was verified stays when the next source takes over.
"""

import errno
import os
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from leaderjob.atomic_files import free_bytes
from leaderjob.model.artifact import PIECE_BYTES, FileEntry, Manifest, valid_digest
from leaderjob.results.digests import algorithm_of, matches, new_hasher
from leaderjob.results.errors import (
    ArtifactDamaged,
    FetchCancelled,
    FetchFailed,
    ManifestRefused,
    NotEnoughSpace,
    TooLarge,
    full_disk_is_not_enough_space,
)
from leaderjob.results.intake import Intake
from leaderjob.results.manifest import MAX_MANIFEST_BYTES, decode_manifest
from leaderjob.results.source import Broken, Refused, Source, WrongBytes
from leaderjob.results.store import Store

RESERVE_BYTES = 64 * 1024 * 1024
_WATCH_S = 0.1


def fetch(
    store: Store,
    digest: str,
    manifest_bytes: int,
    sources: Sequence[str],
    *,
    max_total_bytes: int,
    on_bytes: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    timeout_s: float = 10.0,
    piece_timeout_s: float = 60.0,
    reserve_bytes: int = RESERVE_BYTES,
    tls: ssl.SSLContext | None = None,
) -> Manifest:
    """Bring the artifact whose manifest has this digest and size into ``store``; it is fresh then.

    :param sources: ``HOST:PORT`` of blob servers, in the order in which to try them.
    :param max_total_bytes: the largest sum of file sizes to accept.
    :param on_bytes: told (bytes fetched, bytes to fetch) after each verified piece.
    :param cancelled: asked often, in another thread too; once it says yes, the fetch ends within moments.
    :param timeout_s: for each operation on a socket.
    :param piece_timeout_s: how long one piece of 4 MiB may take in all; a slower source is passed over.
    :param reserve_bytes: how much of the disk must stay free.
    :param tls: encrypts, and checks who delivers; None: nothing is encrypted.
    :raises FetchFailed: no source could deliver; says what each of them answered.
    :raises FetchCancelled: ``cancelled()``.
    :raises ManifestRefused: the manifest must not be believed; nothing was written.
    :raises TooLarge: more than ``max_total_bytes``; nothing was written.
    :raises NotEnoughSpace: the disk has too little room, or became full; the staging area is empty again.
    """
    if not valid_digest(digest) or not 0 < manifest_bytes <= MAX_MANIFEST_BYTES:
        raise ManifestRefused(
            f"a manifest of {manifest_bytes} bytes with digest {digest[:80]!r} cannot be: sizes go up to "
            f"{MAX_MANIFEST_BYTES}; whoever published this pointer is broken"
        )
    with (
        full_disk_is_not_enough_space(store.root),
        Intake(store.objects) as intake,
        _Crew(sources, cancelled, timeout_s, piece_timeout_s, tls) as crew,
    ):
        intake.announce([digest])
        content = _manifest_content(store, crew, digest, manifest_bytes)
        manifest = decode_manifest(content)
        if manifest.size_bytes > max_total_bytes:
            raise TooLarge(
                f"the artifact of run {manifest.run} has {manifest.size_bytes} bytes, the limit is "
                f"{max_total_bytes}: raise the limit, or publish less"
            )
        # Held first, looked for then: a sweep in another thread cannot come in between.
        intake.announce(entry.digest for entry in manifest.files)
        missing = store.missing(manifest)
        total_bytes = sum(entry.size_bytes for entry in missing)
        _check_space(store, total_bytes + len(content), reserve_bytes)
        done_bytes = 0
        for entry in missing:
            done_before = done_bytes

            def report(file_bytes: int, before: int = done_before) -> None:
                if on_bytes is not None:
                    on_bytes(before + file_bytes, total_bytes)

            _fetch_file(crew, intake, entry, report)
            done_bytes += entry.size_bytes
        if not store.has(digest):
            intake.put_bytes(content, digest)  # last: who has the manifest had everything
        store.mark_fresh(digest)
    return manifest


@dataclass(slots=True)
class _Wanted:
    """One object on its way, across sources: ``done`` of its pieces are verified and taken."""

    name: str
    digest: str
    size_bytes: int
    piece_bytes: int
    piece_digests: tuple[str, ...]
    take: Callable[[memoryview], object]
    done: int = 0


class _Crew:
    """The sources of one fetch, the best at the front, and a thread that ends reads that should end."""

    def __init__(
        self,
        addresses: Sequence[str],
        cancelled: Callable[[], bool],
        timeout_s: float,
        piece_timeout_s: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._sources = [
            Source(address, timeout_s=timeout_s, tls=tls) for address in dict.fromkeys(addresses)
        ]
        self._answers: dict[str, str] = {}
        self._cancelled = cancelled
        self._piece_timeout_s = piece_timeout_s
        self._current: Source | None = None
        self._deadline = 0.0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="leaderjob-fetch-watch", daemon=True)

    def __enter__(self) -> Self:
        self.check_cancelled()
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._watcher.join()
        for source in self._sources:
            source.close()

    def check_cancelled(self) -> None:
        if self._cancelled():
            raise FetchCancelled(
                "the fetch was cancelled; nothing was activated, and what is active goes on serving"
            )

    def obtain(self, wanted: _Wanted) -> None:
        """Ask one source after the other until all pieces were taken. :raises FetchFailed: none could."""
        waiting = deque(self._sources)
        second_chance = set(waiting)
        while waiting:
            source = waiting.popleft()
            done_before = wanted.done
            try:
                self._stream(source, wanted)
                return
            except WrongBytes as error:
                self._sources.remove(source)
                self._answers[source.address] = f"{error}; it is not asked again"
            except Refused as error:
                self._answers[source.address] = str(error)
            except Broken as error:
                self.check_cancelled()  # then it was us who broke it
                self._answers[source.address] = str(error)
                self._sources.remove(source)
                self._sources.append(source)
                if wanted.done > done_before or source in second_chance:
                    second_chance.discard(source)
                    waiting.append(source)
        raise FetchFailed(wanted.name, list(self._answers.items()))

    def _stream(self, source: Source, wanted: _Wanted) -> None:
        self._deadline = time.monotonic() + self._piece_timeout_s
        self._current = source
        pieces = source.read(
            wanted.digest,
            offset=wanted.done * wanted.piece_bytes,
            size_bytes=wanted.size_bytes,
            piece_bytes=wanted.piece_bytes,
        )
        try:
            for piece in pieces:
                if not matches(piece, wanted.piece_digests[wanted.done]):
                    raise WrongBytes(f"sent wrong bytes for piece {wanted.done} of {wanted.name}")
                wanted.take(piece)
                wanted.done += 1
                self.check_cancelled()
                self._deadline = time.monotonic() + self._piece_timeout_s
        finally:
            self._current = None
            pieces.close()  # closes the connection, unless everything was read

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_S):
            source = self._current
            if source is not None and (self._cancelled() or time.monotonic() > self._deadline):
                source.interrupt()


def _manifest_content(store: Store, crew: _Crew, digest: str, manifest_bytes: int) -> bytes:
    try:
        local = store.manifest_bytes(digest) if store.has(digest) else None
    except ArtifactDamaged:
        local = None  # it was moved aside just now: it comes anew, like anything that is missing
    if local is not None:
        return local
    content = bytearray()
    wanted = _Wanted("the manifest", digest, manifest_bytes, manifest_bytes, (digest,), content.extend)
    crew.obtain(wanted)
    return bytes(content)


def _fetch_file(crew: _Crew, intake: Intake, entry: FileEntry, report: Callable[[int], None]) -> None:
    staged = intake.new_path()
    algorithm = algorithm_of(entry.digest)
    whole = new_hasher(algorithm)
    with staged.open("xb", buffering=0) as file:
        _allocate(file.fileno(), entry.size_bytes)

        def take(piece: memoryview) -> None:
            rest = piece
            while rest:
                rest = rest[file.write(rest) :]
            whole.update(piece)
            report(file.tell())

        if entry.size_bytes:
            name = f"file {entry.path!r}"
            crew.obtain(_Wanted(name, entry.digest, entry.size_bytes, PIECE_BYTES, entry.piece_digests, take))
    if f"{algorithm}:{whole.hexdigest()}" != entry.digest:
        # The pieces are those that the manifest lists, so it is the manifest that is wrong.
        raise ManifestRefused(
            f"the manifest contradicts itself: the pieces of {entry.path!r} do not make up a file with the "
            "digest that it gives; publish the artifact again"
        )
    intake.put(staged, entry.digest)


def _allocate(descriptor: int, size_bytes: int) -> None:
    """Fail now rather than at the last piece where the disk is too full."""
    if size_bytes:
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot
                raise


def _check_space(store: Store, needed_bytes: int, reserve_bytes: int) -> None:
    available = free_bytes(store.root)
    if needed_bytes + reserve_bytes > available:
        raise NotEnoughSpace(
            f"the artifact needs {needed_bytes} more bytes and {reserve_bytes} must stay free, but {store.root} "
            f"has {available}: what is active goes on serving; free some space or lower what retention keeps"
        )
