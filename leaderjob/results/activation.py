"""Which version of each job is in force on this replica, and what may be removed.

::

    <root>/jobs/<job>/versions/<version>/   hard links to objects; never changed once its name is there
    <root>/jobs/<job>/active.json           the record: (history, sequence, version, digest), kept versions
    <root>/jobs/<job>/current               symbolic link to the active version, for readers

A reader resolves ``current`` once and stays in the directory that it got; opening path after path through
the link mixes versions. Directories stay writable, because some readers (Tantivy) want a lock file there.

Activation is write-ahead: first the directory (built aside, renamed), then the record, then the link.
The record is the truth. After a crash before it, the old version is in force and the new directory is
removed; after a crash behind it, the link is moved on start. So nobody was ever served a version that a
restart forgets, and a replica never goes back.
"""

import os
import shutil
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from leaderjob.atomic_files import (
    TEMPORARY_PREFIX,
    make_directory,
    replace_symlink,
    sync_directory,
    sync_tree,
    temporary_beside,
    write_file,
)
from leaderjob.model.artifact import Manifest
from leaderjob.model.ids import check_name, valid_name
from leaderjob.model.record import Record
from leaderjob.results.errors import (
    ArtifactDamaged,
    ObjectMissing,
    RecordDamaged,
    WouldGoBack,
    full_disk_is_not_enough_space,
)
from leaderjob.results.objects import Swept
from leaderjob.results.store import Store
from leaderjob.results.tree import link_tree, tree_problems

_RECORD = "active.json"
_CURRENT = "current"


class KeptVersion(Record):
    """A version that has a directory. The name differs from the number only where that was taken."""

    version: int
    digest: str
    directory: str


class ActiveRecord(Record):
    """``active.json``: the highest pointer accepted, and the versions before it, the latest first."""

    history: str
    sequence: int
    active: KeptVersion
    previous: tuple[KeptVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class Active:
    """What this replica serves of a job. ``path`` is the directory itself, not the link to it."""

    history: str
    sequence: int
    version: int
    digest: str
    path: Path


@dataclass(frozen=True, slots=True)
class Retained:
    """What retention removed: (job, version) of each directory, and the objects nobody needs any more."""

    versions: tuple[tuple[str, int], ...]
    swept: Swept


class Activation:
    """Activates versions out of ``store``, whose only user in this role it must be.

    Opening it finishes or undoes what a crash interrupted. A job whose record or directory is damaged is
    left alone: each later use of that job raises :class:`RecordDamaged`, or the disk's own ``OSError``.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs = store.root / "jobs"
        self._lock = threading.RLock()
        make_directory(self._jobs)
        for job in self._job_names():
            try:
                self._recover(job)
            except (RecordDamaged, OSError):
                continue  # not lost: every later use of this job comes by the same place, and raises it

    def activate(self, job: str, *, history: str, sequence: int, version: int, digest: str) -> Path:
        """Put a version that the store holds completely in force; returns its directory.

        ``history`` is the random id of the etcd store's history; within one, sequences only grow.
        Another history is accepted: which one counts was decided by whoever read it. Repeating a call
        is harmless, and repairs a damaged directory.

        :raises WouldGoBack: a later pointer of this history is active, or this one says something else.
        :raises ObjectMissing: the store does not hold all of it: fetch it first.
        :raises ArtifactDamaged: its manifest turned out to be corrupt: fetch it again.
        :raises RecordDamaged: it is not known what was accepted before.
        :raises NotEnoughSpace: the disk is full; the old version stays in force.
        """
        check_name("job", job)
        with self._lock, full_disk_is_not_enough_space(self._jobs):
            record = self._read(job)
            if record is not None:
                _check_order(job, record, history=history, sequence=sequence, version=version, digest=digest)
            manifest = self._store.manifest(digest)
            with self._store.objects.hold({digest, *(entry.digest for entry in manifest.files)}):
                missing = self._store.missing(manifest)
                if missing:
                    raise ObjectMissing(missing[0].digest, f"file {missing[0].path!r} of version {version}:")
                kept = self._directory_for(job, record, version, digest, manifest)
                before = [record.active, *record.previous] if record else []
                previous = tuple(one for one in before if (one.version, one.digest) != (version, digest))
                new = ActiveRecord(history=history, sequence=sequence, active=kept, previous=previous)
                if new != record:
                    write_file(self._jobs / job / _RECORD, new.to_bytes())
                self._point(job, kept)
            self._store.settle(digest)
            return self._path(job, kept)

    def active(self, job: str) -> Active | None:
        """What is in force, once it is sure that its directory is whole; None if nothing ever was.

        Whole means that every file is there and is the store's own object, or has its digest. To re-hash
        the objects themselves, use :meth:`Store.verify`.

        :raises ArtifactDamaged: it is not whole: fetch it again and repeat the activation.
        :raises RecordDamaged: the record cannot be read.
        """
        with self._lock:
            record = self._read(job)
            if record is None:
                return None
            kept = record.active
            try:
                manifest = self._store.manifest(kept.digest)
            except ObjectMissing:
                raise ArtifactDamaged(kept.digest, {"manifest": "missing"}) from None
            path = self._path(job, kept)
            problems = tree_problems(self._store.objects, manifest, path)
            if problems:
                raise ArtifactDamaged(kept.digest, problems)
            return Active(record.history, record.sequence, kept.version, kept.digest, path)

    def current(self, job: str) -> Path:
        """The link that leads readers to the active version. It exists once something was activated."""
        return self._jobs / check_name("job", job) / _CURRENT

    def retain(self, *, keep: int, keep_manifests: Collection[str] = ()) -> Retained:
        """Remove what is no longer wanted: of all jobs, versions first, then objects.

        A version stays while it is active, among the ``keep`` versions before that, or named by
        ``keep_manifests`` (what the cluster keeps or somebody pinned). An object stays while such a
        version, a manifest to keep, a fresh one, or something under way needs it.

        :raises RecordDamaged: it is not known what a job needs; nothing was removed.
        """
        if keep < 0:
            raise ValueError(f"keep is {keep}: the number of versions to keep cannot be negative")
        with self._lock, full_disk_is_not_enough_space(self._jobs):
            records = {job: record for job in self._job_names() if (record := self._read(job))}
            elsewhere = frozenset(keep_manifests)
            needed = set(elsewhere)
            removed: list[tuple[str, int]] = []
            shorter: dict[str, ActiveRecord] = {}
            for job, record in records.items():
                wanted = tuple(
                    one
                    for index, one in enumerate(record.previous)
                    if index < keep or one.digest in elsewhere
                )
                needed.update(one.digest for one in (record.active, *wanted))
                removed += [(job, one.version) for one in record.previous if one not in wanted]
                shorter[job] = record.model_copy(update={"previous": wanted})
                self._remove_strays(job, shorter[job])
            swept = self._store.sweep(needed)
            # Last, so that a full disk has room for it again. A record that names a version too many does
            # no harm: its directory is looked at before it is used.
            for job, record in shorter.items():
                if record != records[job]:
                    write_file(self._jobs / job / _RECORD, record.to_bytes())
            return Retained(tuple(removed), swept)

    def _directory_for(
        self, job: str, record: ActiveRecord | None, version: int, digest: str, manifest: Manifest
    ) -> KeptVersion:
        objects = self._store.objects
        for kept in (record.active, *record.previous) if record else ():
            reusable = (kept.version, kept.digest) == (version, digest)
            if reusable and not tree_problems(objects, manifest, self._path(job, kept)):
                return kept
        versions = self._jobs / job / "versions"
        make_directory(versions)
        # The plain number is taken when the old directory is damaged, or when another history counted
        # to the same number: a directory that somebody may be reading is never changed.
        names = (f"{version}.{suffix}" if suffix else f"{version}" for suffix in range(1_000_000))
        name = next(name for name in names if not os.path.lexists(versions / name))
        temporary = temporary_beside(versions / name)
        try:
            temporary.mkdir()
            link_tree(objects, manifest, temporary)
            sync_tree(temporary)
            temporary.rename(versions / name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_directory(versions)
        return KeptVersion(version=version, digest=digest, directory=name)

    def _recover(self, job: str) -> None:
        record = self._read(job)
        if record is not None:
            self._point(job, record.active)
        self._remove_strays(job, record)

    def _remove_strays(self, job: str, record: ActiveRecord | None) -> None:
        """Remove directories that the record does not name, and temporary names."""
        directory = self._jobs / job
        known = {kept.directory for kept in (record.active, *record.previous)} if record else set()
        for path in list(directory.glob("versions/*")):
            if path.name not in known:
                # Renamed first: a version that is half removed must not look like one.
                trash = temporary_beside(path)
                path.rename(trash)
                shutil.rmtree(trash)
        for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
            path.unlink()

    def _point(self, job: str, kept: KeptVersion) -> None:
        link = self._jobs / job / _CURRENT
        target = f"versions/{kept.directory}"
        if not link.is_symlink() or link.readlink() != Path(target):
            replace_symlink(link, target)

    def _path(self, job: str, kept: KeptVersion) -> Path:
        return self._jobs / job / "versions" / kept.directory

    def _job_names(self) -> list[str]:
        return sorted(path.name for path in self._jobs.iterdir() if valid_name(path.name))

    def _read(self, job: str) -> ActiveRecord | None:
        path = self._jobs / check_name("job", job) / _RECORD
        try:
            return ActiveRecord.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError) as error:
            problem = "is not a record of what is active"
            if isinstance(error, OSError):
                problem = f"cannot be read ({error.strerror})"
            raise RecordDamaged(
                f"{path} {problem}, so it is not known which version this replica had "
                f"accepted; check the disk. Once you are sure that etcd is the right one, remove {path.parent} "
                "and restart: the published version is then fetched and activated anew"
            ) from error


def _check_order(
    job: str, record: ActiveRecord, *, history: str, sequence: int, version: int, digest: str
) -> None:
    if history != record.history or sequence > record.sequence:
        return
    active = record.active
    if sequence == record.sequence and (version, digest) == (active.version, active.digest):
        return
    raise WouldGoBack(
        f"the pointer of job {job!r} says sequence {sequence}, version {version}, but sequence "
        f"{record.sequence}, version {active.version} was accepted here in the same history {history}: this "
        "replica keeps it. If etcd was restored from a backup, run `leaderjob accept-restore`"
    )
