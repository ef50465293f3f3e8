"""What an attempt leaves is made accessible and removed whatever its modes: for root, and for an ordinary user."""

import os
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leaderjob.engine.artifact_directory import holds_results, make_empty, remove
from tests.support.jobs.odd import MAKE_FILES, PUBLISHED

_NOBODY = 65534


def as_nobody(work: Callable[[], None]) -> None:
    """Run ``work`` in a child process that modes bind; this process, if it is not root, is one already."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - nothing may go on in a copy of the test session
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that anybody may reach and change, unlike ``tmp_path``."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    yield place
    subprocess.run(["rm", "-rf", place], check=True)


@pytest.mark.parametrize("run_as", [as_nobody, lambda work: work()], ids=["ordinary user", "this user"])
@pytest.mark.parametrize("how", MAKE_FILES)
def test_whatever_a_job_left_is_removed(
    place: Path, how: str, run_as: Callable[[Callable[[], None]], None]
) -> None:
    directory = place / "work" / "j" / "r-1" / "artifact"

    def work() -> None:
        assert make_empty(directory) is None
        MAKE_FILES[how](directory)
        remove(directory)
        assert not os.path.lexists(directory)
        assert list(directory.parent.iterdir()) == []

    run_as(work)


@pytest.mark.parametrize("how", PUBLISHED)
def test_files_can_be_taken_from_directories_of_any_mode(place: Path, how: str) -> None:
    directory = place / "artifact"

    def work() -> None:
        assert make_empty(directory) is None
        MAKE_FILES[how](directory)
        assert holds_results(directory)
        moved = place / "moved"
        (directory / "file").rename(moved)
        moved.chmod(0o444)
        assert moved.read_text() == "content"
        remove(directory)

    as_nobody(work)


def test_only_files_count_as_results_and_what_stands_in_place_of_the_directory(place: Path) -> None:
    directory = place / "artifact"
    assert not holds_results(directory)
    directory.mkdir()
    assert not holds_results(directory)
    directory.rmdir()
    directory.symlink_to("/nowhere")
    assert holds_results(directory)


def test_a_job_that_locks_the_directories_above_its_own_does_not_stop_its_next_attempt(place: Path) -> None:
    directory = place / "work" / "j" / "r-1" / "artifact"

    def work() -> None:
        assert make_empty(directory) is None
        directory.parent.chmod(0)
        directory.parent.parent.chmod(0)
        assert make_empty(directory) is None
        remove(place / "work")

    as_nobody(work)


def test_removing_follows_no_link(place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    directory = place / "artifact"
    (directory / "below").mkdir(parents=True)
    (directory / "below" / "link").symlink_to(outside)
    remove(directory)
    assert not directory.exists()
    assert (outside / "kept").exists()
