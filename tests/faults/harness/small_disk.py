"""A small disk of a replica's own, which may be full. Needs root."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from leaderjob.embedded.child import spawn

_SIZE_MB = 128  # a replica keeps 64 MB free
_BALLAST = "ballast"
_MOUNT = 'mount -t tmpfs -o size="$1"m tmpfs "$2" && echo mounted && exec sleep infinity'


class SmallDisk:
    """Memory that is mounted where only those see it who run :attr:`within`; it outlives them all.

    It goes with the process that holds it, so that nothing is left of it whatever ends the tests.
    """

    def __init__(self, directory: Path, log: Path) -> None:
        self._directory = directory
        self._log = log
        self._holder: subprocess.Popen[bytes] | None = None

    def mount(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        shell = ["sh", "-ec", _MOUNT, "sh", str(_SIZE_MB), str(self._directory)]
        unshare = shutil.which("unshare")
        assert unshare is not None, "unshare of util-linux is not installed"
        with self._log.open("wb") as log:
            self._holder = spawn(
                [unshare, "--mount", "--propagation", "slave", *shell], log, environment=os.environ
            )
        while not self._log.read_text():
            assert self._holder.poll() is None, "the disk could not be mounted"
        assert self._log.read_text() == "mounted\n", self._log.read_text()

    def unmount(self) -> None:
        """Give it up. No-op if it was never mounted."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()

    @property
    def within(self) -> Sequence[str]:
        """What a command begins with to have it."""
        return ("nsenter", f"--mount=/proc/{self._mounted_by}/ns/mnt")

    @property
    def seen_from_outside(self) -> Path:
        """Its directory, for whoever does not have it mounted."""
        return Path(f"/proc/{self._mounted_by}/root{self._directory}")

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.seen_from_outside / _BALLAST).open("wb", buffering=0) as ballast:
            block = bytes(1 << 20)
            try:
                while True:
                    ballast.write(block)
            except OSError:
                return  # that is what it was for

    def mend(self) -> None:
        """Make room again."""
        (self.seen_from_outside / _BALLAST).unlink(missing_ok=True)

    @property
    def _mounted_by(self) -> int:
        assert self._holder is not None, "the disk was never mounted"
        return self._holder.pid
