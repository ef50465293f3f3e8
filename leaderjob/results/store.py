"""The artifacts that this replica holds: manifests, and the objects that they name.

::

    <root>/objects/<algorithm>/<hh>/<hex>   whole files and manifests, read-only, named by their digest
    <root>/staging/                         files in preparation; emptied on start
    <root>/quarantine/                      the last few objects that turned out to be corrupt
    <root>/lock                             who has the store open
    <root>/jobs/<job>/                      what is active: see ``activation``

A manifest that ``add`` or ``fetch`` brought in is *fresh*: no sweep touches it or its files until it is
activated (the record of what is active protects it from then on), discarded, or the process ends.
"""

import fcntl
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.atomic_files import make_directory
from leaderjob.model.artifact import FileEntry, Manifest, valid_digest
from leaderjob.results.digests import digest_bytes, matches
from leaderjob.results.errors import (
    AddCancelled,
    ArtifactDamaged,
    ManifestRefused,
    ObjectMissing,
    StoreInUse,
    full_disk_is_not_enough_space,
)
from leaderjob.results.intake import Intake
from leaderjob.results.listing import publishable_files
from leaderjob.results.manifest import MAX_MANIFEST_BYTES, decode_manifest, distinct_objects, encode_manifest
from leaderjob.results.objects import Objects, Swept


@dataclass(frozen=True, slots=True)
class StagedArtifact:
    """An artifact that is safely on this replica's disk. ``manifest_bytes`` is the manifest's own size."""

    manifest: Manifest
    digest: str
    manifest_bytes: int


class Store:
    """Open the store under ``root``, creating it where there is none; removes what a crash left half-done.

    :raises StoreInUse: another process has it open.
    """

    def __init__(self, root: Path) -> None:
        make_directory(root)
        self.root = root
        self._lock_file = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_file)
            raise StoreInUse(
                f"another process has the store {root} open; two replicas cannot share one: "
                "stop the other one, or give each its own directory"
            ) from None
        try:
            self.objects = Objects(root)
            self.objects.clear_leftovers()
        except BaseException:
            self.close()
            raise
        self._fresh: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process open the store."""
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def add(
        self, job: str, run: str, source: Path, *, cancelled: Callable[[], bool] = lambda: False
    ) -> StagedArtifact:
        """Take in the files below the directory ``source``, which are moved, not copied, where possible.

        Everything is flushed when this returns. Whatever wrote the files must be gone by now. Nothing is
        moved when a file is refused. The manifest is fresh.

        :param cancelled: asked between files and between their pieces; once it says yes, this ends.
        :raises Unpublishable: something is not a regular file, or has a path that cannot be published.
        :raises NotEnoughSpace: the disk is full.
        :raises AddCancelled: ``cancelled()``; nothing is fresh, and the next sweep removes what was moved.
        """

        def check() -> None:
            if cancelled():
                raise AddCancelled(f"taking in the result of run {run} was cancelled; it is not published")

        paths = publishable_files(job, run, source)
        with full_disk_is_not_enough_space(self.root), Intake(self.objects, check=check) as intake:
            entries = []
            for path in paths:
                check()
                taken = intake.take(source / path)
                entries.append(
                    FileEntry(
                        path=path,
                        size_bytes=taken.size_bytes,
                        digest=taken.digest,
                        piece_digests=taken.piece_digests,
                    )
                )
            manifest = Manifest(job=job, run=run, files=tuple(entries))
            content = encode_manifest(manifest)
            if len(content) > MAX_MANIFEST_BYTES:
                raise ManifestRefused(
                    f"the manifest of run {run} has {len(content)} bytes: at most {MAX_MANIFEST_BYTES} are "
                    "possible; publish fewer or smaller files"
                )
            check()
            digest = digest_bytes(content)
            intake.put_bytes(content, digest)
            self.mark_fresh(digest)
        return StagedArtifact(manifest, digest, len(content))

    def has(self, digest: str) -> bool:
        """Whether the object is here (what is no digest never is); of files, ask :meth:`missing`."""
        return valid_digest(digest) and self.objects.size_bytes(digest) is not None

    def manifest(self, digest: str) -> Manifest:
        """The manifest with this digest, verified as it is read.

        :raises ObjectMissing: it is not here.
        :raises ArtifactDamaged: its bytes are wrong; they were moved aside.
        :raises ManifestRefused: it is no manifest.
        """
        return decode_manifest(self.manifest_bytes(digest))

    def manifest_bytes(self, digest: str) -> bytes:
        """The bytes of a manifest, verified. Raises as :meth:`manifest` does."""
        with self.objects.open(digest) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise ManifestRefused(
                f"{digest} is larger than any manifest: it is the digest of some other file"
            )
        if not matches(content, digest):
            self.objects.is_sound(digest)  # moves it aside
            raise ArtifactDamaged(digest, {"manifest": "its bytes do not match its digest"})
        return content

    def missing(self, manifest: Manifest) -> tuple[FileEntry, ...]:
        """The files whose objects are not here (or not in their size), one for each distinct digest."""
        return tuple(
            entry
            for digest, entry in distinct_objects(manifest.files).items()
            if self.objects.size_bytes(digest) != entry.size_bytes
        )

    def verify(self, digest: str) -> None:
        """Re-hash an artifact from the disk: the manifest, and each of its files.

        :raises ObjectMissing: the manifest is not here.
        :raises ArtifactDamaged: names every file that is missing or corrupt; corrupt ones were moved
            aside, so that :meth:`missing` lists them and a fetch brings them again.
        """
        problems: dict[str, str] = {}
        for entry in distinct_objects(self.manifest(digest).files).values():
            present = self.objects.size_bytes(entry.digest) is not None
            if not self.objects.is_sound(entry.digest):
                problems[entry.path] = "its bytes do not match its digest" if present else "missing"
        if problems:
            raise ArtifactDamaged(digest, problems)

    def mark_fresh(self, digest: str) -> None:
        """No sweep touches this manifest and its files from now on, until :meth:`settle`."""
        self._fresh.add(digest)

    def settle(self, digest: str) -> None:
        """The manifest was activated, or will never be: it is no longer fresh."""
        self._fresh.discard(digest)

    def sweep(self, keep_manifests: Collection[str]) -> Swept:
        """Remove every object that no manifest to keep, no fresh one and nothing under way needs.

        Use :meth:`Activation.retain`, which knows what is active.

        :raises ArtifactDamaged: a manifest to keep is corrupt, so what it needs is not known; nothing
            was removed.
        """
        return self.objects.sweep(lambda: self._needed({*keep_manifests, *self._fresh.copy()}))

    def _needed(self, manifests: Collection[str]) -> set[str]:
        needed: set[str] = set()
        for digest in manifests:
            try:
                files = self.manifest(digest).files
            except ObjectMissing:
                continue  # kept by the cluster, but not held here: it needs nothing of ours
            needed.add(digest)
            needed.update(entry.digest for entry in files)
        return needed
