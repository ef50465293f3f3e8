"""There is one way to replace a file: flush it, rename it, flush the directory."""

import ast
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import leaderjob
from leaderjob.atomic_files import TEMPORARY_PREFIX, make_directory, write_file
from leaderjob.cluster.history import HistoryCheck, StateUnwritable, _Seen
from leaderjob.cluster.identity import INCARNATIONS, Identity
from leaderjob.embedded.running import announced
from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd
from leaderjob.records.keys import Keys

PACKAGE = Path(leaderjob.__file__).parent


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was flushed and renamed, in order: the names of files and directories."""
    seen: list[str] = []
    fsync, rename = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        seen.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def renamed(source: Any, target: Any, **more: Any) -> None:
        seen.append(f"rename {Path(source).name} {Path(target).name}")
        rename(source, target, **more)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    return seen


def history_check(directory: Path) -> HistoryCheck:
    return HistoryCheck(Etcd(["127.0.0.1:1"]), Keys("n"), "r", directory, dict)


def keep_history(directory: Path) -> None:
    history_check(directory)._note(_Seen(history="h", token_floor=0, revision=7))


def note_incarnation(directory: Path) -> None:
    Identity(Etcd(["127.0.0.1:1"]), "/key", "first", directory).note()


def announce_demo(directory: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(announced(["127.0.0.1:1"], "n", folder=directory))


WRITERS: list[tuple[Callable[[Path], None], str]] = [
    (lambda directory: write_file(directory / "any", b"1"), "any"),
    (keep_history, "history.json"),
    (note_incarnation, INCARNATIONS),
    (announce_demo, "demo.json"),
]


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_file_is_flushed_then_renamed_then_its_directory_is_flushed(
    write: Callable[[Path], None], name: str, tmp_path: Path, calls: list[str]
) -> None:
    write(tmp_path)
    temporary = f"{TEMPORARY_PREFIX}{name}"
    assert calls == [f"fsync {temporary}", f"rename {temporary} {name}", f"fsync {tmp_path.name}"]


def test_new_directories_are_flushed_in_their_parents(tmp_path: Path, calls: list[str]) -> None:
    make_directory(tmp_path / "a" / "b")
    assert calls == [f"fsync {tmp_path.name}", "fsync a"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_failed_write_leaves_the_old_content_and_says_why(
    failing: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, failing, fails)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        write_file(path, b"new")
    assert caught.value.errno == code
    assert [left.name for left in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
    with pytest.raises(StateUnwritable, match=os.strerror(code)):
        keep_history(tmp_path)
    with pytest.raises(SettingsError, match=os.strerror(code)):
        note_incarnation(tmp_path)


def test_what_a_crash_left_behind_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}file").write_bytes(b"half of a longer con")
    write_file(tmp_path / "file", b"whole")
    assert [left.name for left in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_file_system_that_cannot_flush_directories_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_file(tmp_path / "file", b"1")
    assert (tmp_path / "file").read_bytes() == b"1"


# What follows is about the code: nothing else may grow a way of its own.

MAY_MOVE_FILES = {
    "atomic_files.py",
    # They move whole files and directories that are flushed already, and flush the directories afterwards.
    "results/activation.py",
    "engine/artifact_directory.py",  # of what is to be removed
    "results/intake.py",
    "results/objects.py",
}
MAY_FLUSH = {"atomic_files.py", "cluster/fitness.py"}  # the latter writes nothing that is kept


def method_calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The names of the methods that are called, with the number of positional arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords:
            yield node.func.attr, len(node.args)


def test_no_other_module_writes_files_atomically_in_its_own_way() -> None:
    moving, flushing = set(), set()
    for path in PACKAGE.rglob("*.py"):
        module = str(path.relative_to(PACKAGE))
        found = set(method_calls(ast.parse(path.read_text("utf-8"))))
        if found & {("replace", 1), ("rename", 1), ("rename", 2), ("renames", 2)}:  # text.replace() takes two
            moving.add(module)
        if found & {("fsync", 1), ("fdatasync", 1)}:
            flushing.add(module)
    assert moving == MAY_MOVE_FILES
    assert flushing == MAY_FLUSH
