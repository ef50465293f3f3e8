"""The directories of old attempts go, whoever else tidies up at the same time."""

import os
from pathlib import Path

from leaderjob.engine.retention import remove_old_logs

_LONG_AGO = 1e9


def attempt(work_dir: Path, job: str, name: str, *, old: bool = True) -> Path:
    directory = work_dir / job / name
    directory.mkdir(parents=True)
    (directory / "output.log").write_text("said")
    if old:
        os.utime(directory, (_LONG_AGO, _LONG_AGO))
    return directory


def test_the_directory_of_an_attempt_goes_with_the_record_of_its_run_unless_it_is_young(
    tmp_path: Path,
) -> None:
    listed = attempt(tmp_path, "index", "a-run-1")
    forgotten = attempt(tmp_path, "index", "b-run-1")
    young = attempt(tmp_path, "index", "c-run-1", old=False)
    remove_old_logs(tmp_path, {("index", "a-run")})
    assert (listed.exists(), forgotten.exists(), young.exists()) == (True, False, True)


def test_what_vanishes_meanwhile_keeps_nothing_else_from_being_removed(tmp_path: Path) -> None:
    """An entry that leads nowhere is listed, and not there when it is looked at, as one that just vanished."""
    forgotten = [attempt(tmp_path, job, "run-1") for job in ("index", "report")]
    for job in ("index", "report"):
        (tmp_path / job / "gone-1").symlink_to(tmp_path / "nowhere")
    (tmp_path / "vanished").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("of an operator")
    remove_old_logs(tmp_path, set())
    assert not any(directory.exists() for directory in forgotten)
    assert (tmp_path / "notes.txt").exists()


def test_without_a_work_directory_there_is_nothing_to_remove(tmp_path: Path) -> None:
    remove_old_logs(tmp_path / "work", set())
    assert list(tmp_path.iterdir()) == []
