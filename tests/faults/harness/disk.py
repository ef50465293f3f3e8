"""A disk of a member's own, which can be stopped: what is written to it then waits, for as long as it is."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_SIZE_BYTES = 512 * 1024 * 1024
_FREEZE = "fsfreeze --freeze . || exit 1; echo frozen; read -r _; fsfreeze --unfreeze ."
_MOUNT_AND_RUN = 'mount -o loop "$1" "$2" && shift 2 && exec "$@"'


class Disk:
    """A small filesystem in a file, mounted where only the member sees it, so that it goes with the member.

    It stays frozen only as long as this process lives: nothing else could wake whoever waits for it.
    """

    def __init__(self, image: Path, directory: Path) -> None:
        self.image = image
        self.directory = directory
        self.mounted_by = 0
        """The process that was started last with it."""
        self._freezer: subprocess.Popen[bytes] | None = None

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
        self._freezer = subprocess.Popen(
            ["sh", "-c", _FREEZE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=f"/proc/{self.mounted_by}/root{self.directory}",
            start_new_session=True,  # what ends the tests must not end it: nobody would thaw the disk
        )
        assert self._freezer.stdout is not None
        assert self._freezer.stdout.readline() == b"frozen\n", "the disk could not be frozen"

    def thaw(self) -> None:
        """Let everything go on. No-op if it is not frozen."""
        if self._freezer is not None:
            self._freezer.communicate()
            assert self._freezer.returncode == 0, "the disk could not be thawed"
            self._freezer = None
