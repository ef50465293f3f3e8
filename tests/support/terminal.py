"""The command line on a terminal of 80 columns, as a person at a keyboard has it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Self

from tests.support.commands import environment

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """``leaderjob ARGUMENTS`` on a terminal of its own. Killed on the way out."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # The first terminal that the leader of a session opens controls it: that is what Ctrl-C goes to.
        opened = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(slave)]
        self._process = subprocess.Popen(
            [*opened, sys.executable, "-m", "leaderjob", *arguments],
            env=environment(TERM="xterm-256color"),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._slave = (
            slave  # open until the end, so that the terminal is there before the shell has opened it
        )
        self.raw = ""
        """What it has written so far, with its escape sequences."""
        self.text = ""
        """What it has shown so far, without them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
        os.close(self._slave)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, pattern: str, *, timeout_s: float = 30.0) -> re.Match[str]:
        """The match of ``pattern`` in what is shown, where any white space may be a line's end."""
        wanted = re.compile(pattern.replace(" ", r"\s+"), re.DOTALL)
        give_up_at = time.monotonic() + timeout_s
        while (found := wanted.search(self.text)) is None:
            left_s = max(0.0, give_up_at - time.monotonic())
            assert select.select([self._master], [], [], left_s)[0], (
                f"{pattern!r} did not come: {self.text!r}"
            )
            self._read()
        return found

    def wait(self, *, timeout_s: float = 30.0) -> int:
        """The exit code, once it has ended; ``text`` is complete then."""
        code = self._process.wait(timeout_s)
        while select.select([self._master], [], [], 0)[0] and self._read():
            pass
        return code

    def _read(self) -> bool:
        received = os.read(self._master, 65536)
        self.raw += received.decode(errors="replace")
        self.text = _ESCAPES.sub("", self.raw)
        return bool(received)
