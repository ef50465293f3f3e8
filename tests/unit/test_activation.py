"""Activation: the old version or the new one, whole, whatever happens; and never back."""

import os
import threading
from typing import Any

import pytest

from leaderjob.errors import InvalidName
from leaderjob.results.errors import (
    ArtifactDamaged,
    NotEnoughSpace,
    ObjectMissing,
    RecordDamaged,
    WouldGoBack,
)
from tests.support.activations import FILES, Place, directories, said


def test_an_activated_version_is_what_current_leads_to(place: Place) -> None:
    assert place.activation.active("job") is None
    path = place.activate(1)
    current = place.activation.current("job")
    assert current.is_symlink()
    assert current.resolve() == path.resolve()
    assert said(current) == {1}
    assert (path / "a").stat().st_ino == (path / "deep/er/b").stat().st_ino  # hard links to one object
    active = place.activation.active("job")
    assert active is not None
    assert (active.sequence, active.version, active.path) == (1, 1, path)


def test_what_is_active_is_known_after_a_restart(place: Place) -> None:
    place.activate(1)
    place.activate(2)
    before = place.activation.active("job")
    place.restart()
    assert place.activation.active("job") == before
    assert said(place.activation.current("job")) == {2}


def test_a_lower_sequence_of_the_same_history_is_refused_also_after_a_restart(place: Place) -> None:
    place.activate(2)
    for _ in range(2):
        with pytest.raises(WouldGoBack, match="sequence 1, version 1"):
            place.activate(1)
        assert said(place.activation.current("job")) == {2}
        place.restart()


def test_the_same_sequence_with_another_version_is_refused(place: Place) -> None:
    place.activate(2)
    with pytest.raises(WouldGoBack):
        place.activate(3, sequence=2)


def test_a_rollback_is_a_later_sequence_and_takes_the_old_directory(place: Place) -> None:
    first = place.activate(1)
    place.activate(2)
    assert place.activate(1, sequence=3) == first
    assert said(place.activation.current("job")) == {1}
    assert directories(place.activation) == ["1", "2"]


def test_another_history_may_begin_again_and_does_not_touch_the_directory_of_the_same_number(
    place: Place,
) -> None:
    old = place.activate(2, sequence=9)
    place.digests[2] = place.digests[3]
    new = place.activate(2, sequence=1, history="restored")
    assert (said(old), said(new)) == ({2}, {3})
    place.restart()
    assert said(place.activation.current("job")) == {3}


def test_repeating_an_activation_changes_nothing(place: Place) -> None:
    path = place.activate(1)
    record = path.parent.parent / "active.json"
    before = (record.stat().st_ino, path.stat().st_ino, path.parent.parent.stat().st_mtime_ns)
    assert place.activate(1) == path
    assert (record.stat().st_ino, path.stat().st_ino, path.parent.parent.stat().st_mtime_ns) == before


def test_a_version_that_is_not_here_completely_is_not_activated(place: Place) -> None:
    place.activate(1)
    place.store.objects.path(place.store.manifest(place.digests[2]).files[0].digest).unlink()
    with pytest.raises(ObjectMissing, match=r"file 'a' of version 2"):
        place.activate(2)
    assert said(place.activation.current("job")) == {1}


def test_a_full_disk_leaves_the_old_version_in_force(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.activate(1)

    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(NotEnoughSpace):
        place.activate(2)
    assert said(place.activation.current("job")) == {1}
    assert directories(place.activation) == ["1"]
    monkeypatch.undo()
    place.activate(2)
    assert said(place.activation.current("job")) == {2}


def test_damage_to_a_version_is_found_and_a_repeated_activation_repairs_it(place: Place) -> None:
    path = place.activate(1)
    (path / "a").unlink()
    place.restart()
    with pytest.raises(ArtifactDamaged, match="a: missing"):
        place.activation.active("job")
    assert said(place.activate(1)) == {1}
    assert place.activation.active("job") is not None
    place.activation.retain(keep=1)
    assert directories(place.activation) == ["1.1"]


def test_a_corrupt_object_is_corrupt_in_the_version_too_and_both_are_repaired(place: Place) -> None:
    path = place.activate(1)
    (path / "a").chmod(0o644)
    (path / "a").write_bytes(b"9")  # the same size, and the same inode as the object
    with pytest.raises(ArtifactDamaged):
        place.store.verify(place.digests[1])
    place.add(1)
    with pytest.raises(ArtifactDamaged, match="do not match"):
        place.activation.active("job")
    assert said(place.activate(1)) == {1}


def test_a_lost_manifest_of_the_active_version_is_reported(place: Place) -> None:
    place.activate(1)
    place.store.objects.path(place.digests[1]).unlink()
    with pytest.raises(ArtifactDamaged, match="manifest: missing"):
        place.activation.active("job")


def test_a_file_that_a_reader_put_into_a_version_does_no_harm(place: Place) -> None:
    path = place.activate(1)
    (path / ".lock").touch()
    assert place.activation.active("job") is not None
    place.activate(2)
    place.activation.retain(keep=0)
    assert directories(place.activation) == ["2"]


def test_a_damaged_record_blocks_its_job_only(place: Place) -> None:
    path = place.activate(1)
    (path.parent.parent / "active.json").write_bytes(b"{")
    place.restart()
    for use in (
        lambda: place.activation.active("job"),
        lambda: place.activate(2),
        lambda: place.activation.retain(keep=0),
    ):
        with pytest.raises(RecordDamaged, match=r"active\.json"):
            use()
    assert said(path) == {1}
    place.activation.activate("other", history="h", sequence=1, version=1, digest=place.digests[1])
    assert place.activation.active("other") is not None


def test_a_job_name_cannot_lead_out_of_the_store(place: Place) -> None:
    with pytest.raises(InvalidName):
        place.activation.activate("../x", history="h", sequence=1, version=1, digest=place.digests[1])


def test_retention_keeps_the_active_version_and_the_previous_ones(place: Place) -> None:
    for version in (1, 2, 3):
        place.activate(version)
    retained = place.activation.retain(keep=1)
    assert retained.versions == (("job", 1),)
    assert directories(place.activation) == ["2", "3"]
    assert retained.swept.objects == 2  # the one content, and the manifest
    for version in (2, 3):
        place.store.verify(place.digests[version])
    assert not place.store.has(place.digests[1])
    assert place.activation.retain(keep=1).versions == ()


def test_retention_keeps_what_the_cluster_keeps_and_what_is_fresh(place: Place) -> None:
    for version in (1, 2):
        place.activate(version)
    place.activation.retain(keep=0, keep_manifests=[place.digests[1]])
    assert directories(place.activation) == ["1", "2"]
    for version in (1, 2, 3):  # the third was added and not activated yet
        place.store.verify(place.digests[version])
    place.activate(3)
    place.activation.retain(keep=0)
    assert directories(place.activation) == ["3"]
    assert [place.store.has(place.digests[version]) for version in (1, 2, 3)] == [False, False, True]


def test_retention_frees_a_disk_that_is_too_full_for_its_own_record(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.activate(1)
    place.activate(2)

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("leaderjob.results.activation.write_file", full)
        with pytest.raises(NotEnoughSpace):
            place.activation.retain(keep=0)
    assert directories(place.activation) == ["2"]
    assert not place.store.has(place.digests[1])
    place.restart()
    place.add(1)
    place.activate(1, sequence=3)  # the record still named the directory that is gone
    assert said(place.activation.current("job")) == {1}


def test_readers_that_pin_current_never_miss_and_never_mix_while_it_is_swapped(place: Place) -> None:
    place.activate(1)
    current = place.activation.current("job")
    stop = threading.Event()
    reads: list[int] = []
    wrong: list[object] = []

    def read_on() -> None:
        while not stop.is_set():
            try:
                pinned = os.open(current, os.O_RDONLY | os.O_DIRECTORY)
                contents = set()
                for path in FILES:
                    with os.fdopen(os.open(path, os.O_RDONLY, dir_fd=pinned), "rb") as file:
                        contents.add(file.read())
                os.close(pinned)
            except OSError as error:
                wrong.append(error)
                return
            if len(contents) != 1:
                wrong.append(contents)
            reads.append(1)

    readers = [threading.Thread(target=read_on) for _ in range(3)]
    for reader in readers:
        reader.start()
    for sequence in range(2, 122):
        place.activate(1 + sequence % 3, sequence=sequence)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(reads) > 100
