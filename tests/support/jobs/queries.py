"""A job whose published versions answer queries, and can be made to misbehave."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leaderjob import BadQuery, JobContext, job


@job
def lookup(ctx: JobContext) -> None:
    (ctx.artifact_dir() / "text").write_text("made by a run")


@lookup.query
def open_text(directory: Path) -> Callable[..., Any]:
    text = (directory / "text").read_text()
    with (directory / "opened").open("a") as openings:
        openings.write("x")
    if (directory / "refuse").exists():
        raise RuntimeError("the index is damaged")
    if (directory / "slow").exists():
        _wait_for(directory / "go on")

    def answer(what: str, path: str = "") -> Any:
        special = {
            "pid": os.getpid,
            "stdin": sys.stdin.read,
            "crash": lambda: os._exit(9),
            "crash once": lambda: _crash_once(Path(path)),
            "wrong": lambda: _raise(BadQuery("there is no such field: 'colour'")),
            "fail": lambda: _raise(OSError("the disk is gone")),
            "object": object,
            "changes": Changing,
            "huge": lambda: "x" * (5 << 20),
            "large": lambda: "x" * (3 << 20),
            "null": lambda: None,
            "value error": lambda: int("no number"),
            "type error": lambda: len(5),  # type: ignore[arg-type]
            "exit": sys.exit,
            "fork": _fork,
            "limit": lambda: "é" * ((4 << 20) // 2 - 1),
            "above": lambda: "é" * ((4 << 20) // 2),
            "small numbers": lambda: [1e-05] * 699_050,
            "wait": lambda: _wait_for(Path(path)),
            "hang": lambda: time.sleep(1000),
        }
        return special[what]() if what in special else text

    return answer


class Changing(dict[str, Any]):
    """What another thread refreshes in the moment at which it has been encoded."""

    def __init__(self) -> None:
        super().__init__(rows=1)
        self.reads = 0

    def items(self) -> Any:
        self.reads += 1
        if self.reads > 2:
            raise RuntimeError("dictionary changed size during iteration")
        return super().items()


@job
def answers_nothing(ctx: JobContext) -> None: ...


def _fork() -> Any:
    pid = os.fork()
    if pid == 0:
        return "from the child"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _raise(error: Exception) -> None:
    raise error


def _crash_once(flag: Path) -> str:
    if flag.exists():
        return "better"
    flag.touch()
    os._exit(9)


def _wait_for(flag: Path) -> str:
    flag.with_suffix(".begun").touch()
    while not flag.exists():
        time.sleep(0.01)
    return "waited"
