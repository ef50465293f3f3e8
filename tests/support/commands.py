"""The command line, run as its users run it: to its end, or read line by line while it runs."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.cli.main import run as command_line

_ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """What our programs get: this checkout to import, and no settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEADERJOB_")}
    ours = {"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1", "LEADERJOB_LOG_FORMAT": "text"}
    return kept | ours | more


def leaderjob(
    *arguments: str, cwd: Path | None = None, timeout_s: float = 30.0, **more: str
) -> "subprocess.CompletedProcess[str]":
    """``leaderjob ARGUMENTS`` as a process of its own, run to its end; ``more`` goes to its environment."""
    return subprocess.run(
        [sys.executable, "-m", "leaderjob", *arguments],
        env=environment(**more),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and the exit code that it ends with."""

    returncode: int
    stdout: str
    stderr: str


def said(arguments: list[str]) -> Said:
    """``leaderjob ARGUMENTS``, run to its end in this process."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = command_line(arguments)
    return Said(code, out.getvalue(), err.getvalue())


class Lines:
    """A process whose output is read line by line, as it comes. Killed on the way out."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        )
        self._unread = b""
        self.read: list[str] = []
        """Every line that was handed out."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.terminate()

    def wait(self, timeout_s: float) -> int:
        """The exit code, once it has ended. :raises subprocess.TimeoutExpired: it goes on."""
        return self._process.wait(timeout_s)

    def until(self, wanted: Callable[[str], bool], *, timeout_s: float = 15.0) -> str:
        """The first line that is wanted. :raises AssertionError: it did not come in time."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            *lines, rest = self._unread.split(b"\n")
            while lines:
                line = lines.pop(0).decode()
                self.read.append(line)
                if wanted(line):
                    self._unread = b"\n".join([*lines, rest])
                    return line
            self._unread = rest
            self._unread += self._receive(give_up_at)

    def _receive(self, give_up_at: float) -> bytes:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        if not select.select([output], [], [], max(0.0, give_up_at - time.monotonic()))[0]:
            raise AssertionError("the line did not come; what came:\n" + "\n".join(self.read))
        received = os.read(output, 65536)
        assert received, "the process ended; what came:\n" + "\n".join(self.read)
        return received
