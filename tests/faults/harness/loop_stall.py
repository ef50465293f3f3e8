"""A replica whose event loop is held up, while its other threads, its guards and its connections live."""

import os
import signal
from pathlib import Path

_ROOT = Path(__file__).parents[3]

# Python runs a signal's handler in the main thread, which is that of the event loop. time.sleep() ends with an error
# where libfaketime moves the clock.
_SITECUSTOMIZE = """
import os, select, signal

def stall(number, frame):
    while os.path.exists(os.environ["TEST_STALLED_WHILE"]):
        select.select([], [], [], 0.01)

signal.signal(signal.SIGUSR1, stall)
"""


class LoopStall:
    """For one process at a time. :param directory: for what that process needs; made if there is none."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self._directory = directory
        self._stalled = directory / "stalled"

    @property
    def settings(self) -> dict[str, str]:
        """What a process has to be started with in its environment."""
        return {
            "PYTHONPATH": f"{self._directory}{os.pathsep}{_ROOT}",
            "TEST_STALLED_WHILE": str(self._stalled),
        }

    def begin(self, pid: int) -> None:
        """Hold the loop of that process up, from its next turn on, until :meth:`end`."""
        self._stalled.touch()
        os.kill(pid, signal.SIGUSR1)

    def end(self) -> None:
        """Let it go on. No-op if it does."""
        self._stalled.unlink(missing_ok=True)
