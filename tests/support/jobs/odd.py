"""A job whose outcome is hard to record, or whose files are hard to publish and to remove."""

import os
import socket
from pathlib import Path
from typing import Any

from leaderjob import JobContext, RetryLater, job


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@job
def odd(ctx: JobContext, how: str) -> Any:
    if how in _RESULTS:
        return _RESULTS[how]
    if how in _REASONS:
        raise _REASONS[how]
    MAKE_FILES[how](ctx.artifact_dir())
    return None


_RESULTS = {
    "a surrogate in its result": "\udc80",
    "a surrogate in a key of its result": {"\udc80": 1},
    "a result that is nested 215 deep": nested(215),
    "a result that is nested 5000 deep": nested(5000),
}

_REASONS = {
    "a surrogate in its reason": ValueError("the file \udc80 is missing"),
    "controls in its reason": ValueError("\x00\x1b[31mred\x7f\r\u202egnirts"),
    "a long reason": ValueError("x" * 1_000_000),
    "a retry that is due in a million years": RetryLater(3e13, "\ud800"),
}


def _fifo(top: Path) -> None:
    os.mkfifo(top / "fifo")


def _socket(top: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(os.path.relpath(top)) / "s"))


def _symlink(top: Path) -> None:
    (top / "link").symlink_to("/etc/hostname")


def _surrogate_name(top: Path) -> None:
    (top / "caf\udce9").write_text("latin-1")


def _deep(top: Path) -> None:
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deep", dir_fd=descriptor)
        below = os.open("deep", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def _replaced_by_a_file(top: Path) -> None:
    top.rmdir()
    top.write_text("not a directory")


def _replaced_by_a_symlink(top: Path) -> None:
    top.rmdir()
    top.symlink_to("/etc")


def _without_permission(top: Path) -> None:
    (top / "below").mkdir()
    for file in (top / "file", top / "below" / "file"):
        file.write_text("content")
        file.chmod(0)
    (top / "below").chmod(0)
    top.chmod(0)


def _read_only(top: Path) -> None:
    (top / "below").mkdir()
    (top / "file").write_text("content")
    (top / "below" / "file").write_text("content")
    (top / "below").chmod(0o555)
    top.chmod(0o555)


def _setuid(top: Path) -> None:
    (top / "file").write_text("content")
    (top / "file").chmod(0o6755)
    top.chmod(0o7000)


MAKE_FILES = {
    "a fifo": _fifo,
    "a socket": _socket,
    "a symbolic link": _symlink,
    "a name that is not UTF-8": _surrogate_name,
    "a tree that is 1200 deep": _deep,
    "a file in place of the directory": _replaced_by_a_file,
    "a link in place of the directory": _replaced_by_a_symlink,
    "no permission": _without_permission,
    "no permission to write": _read_only,
    "setuid and setgid": _setuid,
}

UNRECORDABLE = (*_RESULTS, *_REASONS, *list(MAKE_FILES)[:-3])
PUBLISHED = tuple(MAKE_FILES)[-3:]
