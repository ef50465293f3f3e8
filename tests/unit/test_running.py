"""The note that a running demo leaves for the other commands."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from leaderjob.embedded.running import announced, read_running
from leaderjob.errors import SettingsError
from leaderjob.user_state import state_folder

ENDPOINTS = ["127.0.0.1:23790"]


def _rewrite(folder: Path, **changes: object) -> None:
    note = folder / "demo.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | changes))


def test_a_running_demo_is_found_and_gone_when_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "leaderjob"
    assert read_running(folder) is None
    with announced(ENDPOINTS, "demo", folder=folder) as running:
        assert read_running(folder) == running
        assert running.endpoints == ("127.0.0.1:23790",)
        assert running.namespace == "demo"
        assert running.pid == os.getpid()
        assert running.started.tzinfo is not None
    assert read_running(folder) is None
    assert list(folder.iterdir()) == []


def test_the_note_goes_when_the_demo_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), announced(ENDPOINTS, "demo", folder=tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_note_of_a_dead_process_is_ignored(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    with announced(ENDPOINTS, "demo", folder=tmp_path):
        _rewrite(tmp_path, pid=gone.pid)
        assert read_running(tmp_path) is None


def test_the_note_of_a_process_that_nobody_reaped_is_ignored(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path[:0] = {[str(entry) for entry in sys.path]!r}
from pathlib import Path
from leaderjob.embedded.running import announced
with announced(["127.0.0.1:1"], "demo", folder=Path({str(tmp_path)!r})):
    os.write(1, b"noted")
    sys.stdin.read()
    os._exit(0)
"""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as demo:
        assert demo.stdin is not None
        assert demo.stdout is not None
        assert demo.stdout.read(5) == b"noted"
        found = read_running(tmp_path)
        assert found is not None
        assert found.pid == demo.pid
        demo.stdin.close()
        os.waitid(os.P_PID, demo.pid, os.WEXITED | os.WNOWAIT)  # it ended, and is a zombie from here on
        assert (tmp_path / "demo.json").exists()
        assert read_running(tmp_path) is None


def test_a_pid_that_was_given_to_another_process_is_told_apart(tmp_path: Path) -> None:
    with announced(ENDPOINTS, "demo", folder=tmp_path) as running:
        boot, _, start_time = running.incarnation.partition("/")
        _rewrite(tmp_path, incarnation=f"{boot}/{int(start_time) - 1}")
        assert read_running(tmp_path) is None
        _rewrite(tmp_path, incarnation=f"another-boot/{start_time}")
        assert read_running(tmp_path) is None
        _rewrite(tmp_path, incarnation=running.incarnation)
        assert read_running(tmp_path) == running


def test_the_demo_that_started_last_is_found_and_keeps_its_note_when_the_first_ends(tmp_path: Path) -> None:
    with announced(["127.0.0.1:1"], "second", folder=tmp_path) as second:
        note = (tmp_path / "demo.json").read_text()
    with announced(ENDPOINTS, "first", folder=tmp_path):
        (tmp_path / "demo.json").write_text(note)
        assert read_running(tmp_path) == second
    assert read_running(tmp_path) == replace(second, endpoints=("127.0.0.1:1",))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', "null"])
def test_a_note_that_makes_no_sense_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo.json").write_text(text)
    assert read_running(tmp_path) is None


def test_the_state_folder_follows_the_xdg_specification() -> None:
    assert state_folder({"XDG_STATE_HOME": "/var/s", "HOME": "/home/a"}) == Path("/var/s/leaderjob")
    assert state_folder({"XDG_STATE_HOME": "s", "HOME": "/home/a"}) == Path("/home/a/.local/state/leaderjob")
    assert state_folder({"HOME": "/home/a"}) == Path("/home/a/.local/state/leaderjob")


def test_a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match="XDG_STATE_HOME"),
        announced(ENDPOINTS, "demo", folder=tmp_path / "file" / "leaderjob"),
    ):
        pytest.fail("nothing was noted")
