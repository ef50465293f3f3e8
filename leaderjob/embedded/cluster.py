"""Replicas as real processes on this machine: started, killed, stopped."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from leaderjob.embedded.child import spawn
from leaderjob.errors import LeaderjobError
from leaderjob.settings import PREFIX

_POLL_S = 0.02
_STOP_WITHIN_S = 12.0
_TOLD_LINES = 8


class ReplicaEnded(LeaderjobError):
    """A replica ended by itself; the message ends with its last words."""


class ReplicaProcess:
    """One replica: ``leaderjob run`` with a state directory and a log of its own.

    :param arguments: what ``leaderjob run`` gets beside ``--id`` and ``--state-dir``.
    """

    def __init__(self, name: str, directory: Path, arguments: Sequence[str]) -> None:
        self.name = name
        self.state_dir = directory / name
        self.log_path = directory / f"{name}.log"
        self._directory = directory
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "leaderjob", "run", "--id", self.name]
        command += ["--state-dir", str(self.state_dir), *self._arguments]
        # What the user has set for replicas of their own is not meant for these.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {"PYTHONUNBUFFERED": "1", "LEADERJOB_LOG_FORMAT": "text"}
        with self.log_path.open("ab") as log:
            # An empty current directory: the bundled jobs are meant, not what lies around.
            self._process = spawn(command, log, environment=environment, cwd=self._directory)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def check(self) -> None:
        """:raises ReplicaEnded: it was started, and is not running."""
        if self._process is not None and self._process.poll() is not None:
            lines = self.log_path.read_text(errors="replace").splitlines()[-_TOLD_LINES:]
            raise ReplicaEnded(
                f"{self.name} ended with code {self._process.returncode}; its log is {self.log_path}; "
                "its last words:\n  " + "\n  ".join(lines)
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it was started."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, at once; returns when it is gone. It may be started again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough; returns when it is gone."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _STOP_WITHIN_S
        while self._process.poll() is None and loop.time() < give_up_at:  # noqa: ASYNC110 - a child is awaited
            await asyncio.sleep(_POLL_S)
        self.kill()


async def stop_all(replicas: Sequence[ReplicaProcess]) -> None:
    """Stop replicas side by side."""
    await asyncio.gather(*(replica.stop() for replica in replicas))
