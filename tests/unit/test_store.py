"""The store: what goes in is addressed by its content, and stays until nobody needs it."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leaderjob.model.artifact import PIECE_BYTES
from leaderjob.results.digests import digest_bytes
from leaderjob.results.errors import (
    AddCancelled,
    ArtifactDamaged,
    ManifestRefused,
    ObjectMissing,
    StoreInUse,
    Unpublishable,
)
from leaderjob.results.manifest import encode_manifest
from leaderjob.results.objects import KEPT_ASIDE
from leaderjob.results.store import StagedArtifact, Store


def written(directory: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    directory.mkdir(exist_ok=True)
    return directory


def added(store: Store, files: dict[str, bytes], run: str = "r") -> StagedArtifact:
    return store.add("job", run, written(store.root.parent / f"src-{run}", files))


def corrupt(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    path.chmod(0o444)


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "store") as opened:
        yield opened


def test_files_are_moved_in_read_only_under_their_digest(store: Store, tmp_path: Path) -> None:
    source = written(tmp_path / "src", {"a/b.txt": b"hello", "c": b"x" * (PIECE_BYTES + 1)})
    inode = (source / "a/b.txt").stat().st_ino
    staged = store.add("job", "run", source)
    assert [entry.path for entry in staged.manifest.files] == ["a/b.txt", "c"]
    entry = staged.manifest.files[0]
    assert entry.digest == digest_bytes(b"hello")
    status = store.objects.path(entry.digest).stat()
    assert (status.st_ino, status.st_mode & 0o777) == (inode, 0o444)
    assert not [path for path in source.rglob("*") if path.is_file()]
    assert list((store.root / "staging").iterdir()) == []


def test_the_manifest_is_an_object_and_the_same_files_give_the_same_digest(store: Store) -> None:
    first = added(store, {"b": b"2", "a": b"1"})
    content = encode_manifest(first.manifest)
    assert store.manifest(first.digest) == first.manifest
    assert (first.digest, first.manifest_bytes) == (digest_bytes(content), len(content))
    assert added(store, {"a": b"1", "b": b"2"}).digest == first.digest


def test_an_empty_directory_is_an_artifact_of_no_files(store: Store) -> None:
    staged = added(store, {})
    assert staged.manifest.files == ()
    store.verify(staged.digest)


def test_equal_files_are_kept_once(store: Store) -> None:
    staged = added(store, {"a": b"same", "b": b"same"})
    assert len(staged.manifest.files) == 2
    assert len(list(store.root.glob("objects/*/*/*"))) == 2  # the content, and the manifest


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory link", "pipe", "socket"])
def test_what_is_no_regular_file_is_named_and_nothing_is_moved(
    store: Store, tmp_path: Path, kind: str
) -> None:
    source = written(tmp_path / "src", {"a-first": b"1", "d/z": b"2"})
    odd = source / "d" / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(odd))
    else:
        odd.symlink_to({"link": "z", "dangling link": "nowhere", "directory link": "."}[kind])
    with pytest.raises(Unpublishable, match="d/odd"):
        store.add("job", "run", source)
    assert (source / "a-first").exists()
    assert list(store.root.glob("objects/*/*/*")) == []


@pytest.mark.parametrize("name", ["back\\slash", os.fsdecode(b"latin-\xe9"), "Case"])
def test_a_path_that_a_manifest_cannot_carry_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    source = written(tmp_path / "src", {"case": b"1", name: b"2"})
    with pytest.raises(Unpublishable):
        store.add("job", "run", source)
    assert (source / "case").exists()


def test_a_source_that_is_a_link_or_a_file_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(written(tmp_path / "src", {"a": b"1"}))
    for source in (tmp_path / "link", tmp_path / "src" / "a", tmp_path / "absent"):
        with pytest.raises(Unpublishable, match="not a directory"):
            store.add("job", "run", source)


def test_a_file_with_another_name_is_copied_so_that_the_other_name_cannot_change_it(
    store: Store, tmp_path: Path
) -> None:
    source = written(tmp_path / "src", {"a": b"1"})
    (tmp_path / "elsewhere").hardlink_to(source / "a")
    staged = store.add("job", "run", source)
    (tmp_path / "elsewhere").write_bytes(b"changed")
    store.verify(staged.digest)


def test_a_file_linked_from_the_last_version_is_not_copied(store: Store, tmp_path: Path) -> None:
    first = added(store, {"a": b"segment"})
    shared = store.objects.path(first.manifest.files[0].digest)
    inode = shared.stat().st_ino
    source = written(tmp_path / "src", {})
    (source / "kept").hardlink_to(shared)
    second = store.add("job", "next", source)
    assert shared.stat().st_ino == inode
    assert second.manifest.files[0].digest == first.manifest.files[0].digest
    store.verify(second.digest)


def test_adding_what_is_here_but_corrupt_repairs_it(store: Store) -> None:
    first = added(store, {"a": b"content"})
    corrupt(store.objects.path(first.manifest.files[0].digest))
    second = added(store, {"a": b"content"}, run="again")
    store.verify(second.digest)
    store.verify(first.digest)


def test_verify_names_each_damaged_file_and_moves_it_aside(store: Store) -> None:
    staged = added(store, {"good": b"0", "bad": b"1", "gone": b"2"})
    bad, gone, good = staged.manifest.files
    corrupt(store.objects.path(bad.digest))
    store.objects.path(gone.digest).unlink()
    with pytest.raises(ArtifactDamaged) as caught:
        store.verify(staged.digest)
    assert set(caught.value.problems) == {"bad", "gone"}
    assert {entry.path for entry in store.missing(staged.manifest)} == {"bad", "gone"}
    assert store.has(good.digest)
    assert not store.has(bad.digest)


def test_a_truncated_object_counts_as_missing(store: Store) -> None:
    staged = added(store, {"a": b"content"})
    path = store.objects.path(staged.manifest.files[0].digest)
    path.chmod(0o644)
    os.truncate(path, 3)
    assert store.missing(staged.manifest) == staged.manifest.files


def test_a_corrupt_manifest_is_moved_aside(store: Store) -> None:
    staged = added(store, {"a": b"1"})
    corrupt(store.objects.path(staged.digest))
    with pytest.raises(ArtifactDamaged, match="manifest"):
        store.manifest(staged.digest)
    with pytest.raises(ObjectMissing):
        store.manifest(staged.digest)


def test_the_digest_of_a_file_is_no_manifest(store: Store) -> None:
    staged = added(store, {"a": b"not json"})
    with pytest.raises(ManifestRefused):
        store.manifest(staged.manifest.files[0].digest)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "blake3:" + "0" * 63, "blake3:" + "G" * 64])
def test_only_digests_are_names_of_objects(store: Store, name: str) -> None:
    assert not store.has(name)
    with pytest.raises(ObjectMissing):
        store.objects.open(name)


def test_two_processes_cannot_open_one_store(store: Store) -> None:
    program = "import sys; from pathlib import Path; from leaderjob.results.store import Store; Store(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(store.root)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "StoreInUse" in done.stderr
    with pytest.raises(StoreInUse, match="another process"):
        Store(store.root)


def test_opening_removes_what_a_crash_left_in_staging(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        staged = added(store, {"a": b"1"})
    written(tmp_path / "store" / "staging" / "0123", {"1": b"half"})
    with Store(tmp_path / "store") as store:
        assert list((store.root / "staging").iterdir()) == []
        store.verify(staged.digest)


def test_a_fresh_artifact_survives_a_sweep_until_it_is_settled(store: Store) -> None:
    staged = added(store, {"a": b"1"})
    assert store.sweep([]).objects == 0
    store.settle(staged.digest)
    swept = store.sweep([])
    assert (swept.objects, swept.size_bytes) == (2, 1 + staged.manifest_bytes)
    assert not store.has(staged.digest)


def test_a_sweep_keeps_what_kept_manifests_share_with_others(store: Store) -> None:
    old = added(store, {"shared": b"s", "old": b"o"}, run="1")
    new = added(store, {"shared": b"s", "new": b"n"}, run="2")
    store.settle(old.digest)
    store.settle(new.digest)
    store.sweep([new.digest, digest_bytes(b"a manifest that only other replicas hold")])
    store.verify(new.digest)
    assert [entry.path for entry in store.missing(old.manifest)] == ["old"]


def test_a_sweep_that_cannot_read_a_manifest_to_keep_removes_nothing(store: Store) -> None:
    kept = added(store, {"a": b"1"}, run="1")
    other = added(store, {"b": b"2"}, run="2")
    store.settle(other.digest)
    corrupt(store.objects.path(kept.digest))
    with pytest.raises(ArtifactDamaged):
        store.sweep([kept.digest])
    assert store.has(kept.manifest.files[0].digest)
    assert store.has(other.digest)


def test_held_objects_survive_a_sweep(store: Store) -> None:
    staged = added(store, {"a": b"1"})
    store.settle(staged.digest)
    held = staged.manifest.files[0].digest
    with store.objects.hold([held]), store.objects.hold([held]):
        store.sweep([])
        assert store.has(held)
    store.sweep([])
    assert not store.has(held)


def test_sweeps_racing_additions_never_remove_what_is_being_added(store: Store) -> None:
    stop = threading.Event()
    sweeps = 0

    def sweep_on() -> None:
        nonlocal sweeps
        while not stop.is_set():
            store.sweep([])
            sweeps += 1

    sweeper = threading.Thread(target=sweep_on)
    sweeper.start()
    try:
        for number in range(20):
            # Most objects are shared with an artifact that the sweeps may take away at any moment.
            files = {f"f{index}": b"%d" % index for index in range(5)} | {"own": b"own %d" % number}
            staged = added(store, files, run=f"r{number}")
            store.verify(staged.digest)
            store.settle(staged.digest)
    finally:
        stop.set()
        sweeper.join()
    assert sweeps > 1


def test_only_the_last_few_corrupt_objects_are_kept(store: Store) -> None:
    for number in range(KEPT_ASIDE + 2):
        staged = added(store, {"a": b"%d" % number}, run=f"r{number}")
        corrupt(store.objects.path(staged.manifest.files[0].digest))
        with pytest.raises(ArtifactDamaged):
            store.verify(staged.digest)
    store.sweep([])
    assert len(list((store.root / "quarantine").iterdir())) == KEPT_ASIDE


def test_taking_in_ends_when_it_is_cancelled_within_a_file_and_nothing_of_it_stays(
    store: Store, tmp_path: Path
) -> None:
    source = written(tmp_path / "src", {"a": b"whole", "b": b"x" * (3 * PIECE_BYTES), "c": b"never"})
    # Asked: before a, for its piece, before b, and for the first and the second piece of b.
    asked = iter([False, False, False, False, True])
    with pytest.raises(AddCancelled, match="run run was cancelled"):
        store.add("job", "run", source, cancelled=lambda: next(asked))
    assert next(asked, "all") == "all"
    assert (source / "c").exists()
    assert list((store.root / "staging").iterdir()) == []
    store.sweep(())
    assert list(store.root.glob("objects/*/*/*")) == []


def test_a_copy_that_is_cancelled_leaves_the_file_that_it_was_made_of(store: Store, tmp_path: Path) -> None:
    source = written(tmp_path / "src", {"big": b"x" * (3 * PIECE_BYTES)})
    (tmp_path / "other name").hardlink_to(source / "big")
    # Asked: before the file, three times while it is hashed, and for the first piece of the copy.
    asked = iter([False, False, False, False, True])
    with pytest.raises(AddCancelled):
        store.add("job", "run", source, cancelled=lambda: next(asked))
    assert (source / "big").stat().st_size == 3 * PIECE_BYTES
    assert list((store.root / "staging").iterdir()) == []
