"""A disk of a member's own, which can be stopped: what is written to it then waits, for as long as it is."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.harness.freezer import Freezer

_SIZE_BYTES = 512 * 1024 * 1024
_MOUNT_AND_RUN = 'mount -o loop "$1" "$2" && shift 2 && exec "$@"'


class Disk:
    """A small filesystem in a file, mounted where only the member sees it, so that it goes with the member."""

    def __init__(self, image: Path, directory: Path) -> None:
        self.image = image
        self.directory = directory
        self.mounted_by = 0
        """The process that was started last with it."""
        self._freezer = Freezer()

    def make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.image.open("xb") as image:
            image.truncate(_SIZE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)

    def mounted(self, command: Sequence[str], *, timeout_s: float = 5.0) -> list[str]:
        """The command that runs ``command`` with this disk, in a mount namespace that it is already in.

        Waits until nobody else has it mounted: a process that was killed has it for a moment longer.
        """
        give_up_at = time.monotonic() + timeout_s
        while subprocess.run(["losetup", "-j", self.image], capture_output=True, check=True).stdout:
            assert time.monotonic() < give_up_at, f"{self.image} is still mounted"
            time.sleep(0.01)
        return ["sh", "-ec", _MOUNT_AND_RUN, "sh", str(self.image), str(self.directory), *command]

    def freeze(self) -> None:
        """Return when whatever is written to it waits."""
        self._freezer.freeze(Path(f"/proc/{self.mounted_by}/root{self.directory}"))

    def thaw(self) -> None:
        """Let everything go on. No-op if it is not frozen."""
        self._freezer.thaw()
