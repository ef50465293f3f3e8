"""A state directory belongs to one process at a time, and what keeps it from being used is said."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.doctor.machine import check_state_directory
from leaderjob.doctor.verdict import Verdict
from leaderjob.errors import SettingsError
from leaderjob.state_directory import holder_of, state_directory


def test_who_holds_it_is_told_to_whoever_comes_next(tmp_path: Path) -> None:
    with state_directory(tmp_path, replica="r1"):
        expected = f"replica 'r1' with pid {os.getpid()}"
        assert holder_of(tmp_path) == expected
        with (
            pytest.raises(SettingsError, match=f"is used by {expected}"),
            state_directory(tmp_path, replica="r2"),
        ):
            pass
        (finding,) = check_state_directory(tmp_path)
        assert (finding.verdict, expected in finding.found) == (Verdict.WARNING, True)
    assert holder_of(tmp_path) is None
    assert next(check_state_directory(tmp_path)).verdict is not Verdict.PROBLEM


@pytest.fixture
def no_space() -> Iterator[None]:
    """No file may grow any more; the kernel refuses as it does on a full disk, with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("no_space")
def test_a_disk_without_space_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"cannot be used: File too large\. .*free some space"),
        state_directory(tmp_path, replica="r1"),
    ):
        pass
    assert holder_of(tmp_path) is None


def test_what_nobody_holds_has_no_holder(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "not there") is None
