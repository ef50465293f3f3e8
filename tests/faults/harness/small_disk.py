"""A small disk of a replica's own: it may be full, become read-only, or hang. Needs root."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from leaderjob.embedded.child import spawn
from tests.faults.harness.freezer import Freezer

_SIZE_MB = 128  # a replica keeps 64 MB free
_BALLAST = "ballast"
_MOUNT = """
directory=$1
shift
mount "$@" "$directory"
mount --make-shared "$directory"
echo mounted
exec sleep infinity
"""
_COVER = """
mount --bind "$1" "$2"
mount --make-private "$2"
mount -o remount,bind,ro "$2"
mount --move "$2" "$1"
"""


class SmallDisk:
    """Memory that is mounted where only those see it who run :attr:`within`; it outlives them all.

    It goes with the process that holds it, so that nothing is left of it whatever ends the tests. What is
    mounted over it later reaches whoever has it already, too.

    :param freezable: a file on a real disk stands behind it, because memory cannot be frozen.
    """

    def __init__(self, directory: Path, log: Path, *, freezable: bool = False) -> None:
        self._directory = directory
        self._log = log
        self._image = log.with_name("disk.img") if freezable else None
        self._holder: subprocess.Popen[bytes] | None = None
        self._freezer = Freezer()
        self._covered = False

    def mount(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        source = ["-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "tmpfs"]
        if self._image is not None:
            with self._image.open("xb") as image:
                image.truncate(2 * _SIZE_MB << 20)  # ext4 takes some of it for itself
            subprocess.run(["mkfs.ext4", "-q", self._image], check=True)
            source = ["-o", "loop", str(self._image)]
        shell = ["sh", "-ec", _MOUNT, "sh", str(self._directory), *source]
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
        self._freezer.thaw()
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

    def make_read_only(self) -> None:
        """Let nothing be opened for writing, made or removed. What is open already may be written to."""
        beside = self._log.with_name("read-only")
        beside.mkdir(exist_ok=True)
        self._run("sh", "-ec", _COVER, "sh", str(self._directory), str(beside))
        self._covered = True

    def freeze(self) -> None:
        """Let whoever writes to it wait, where no signal reaches: thaw it whatever happens."""
        assert self._image is not None, "memory cannot be frozen: give freezable=True"
        self._freezer.freeze(self.seen_from_outside)

    def mend(self) -> None:
        """Undo all of it."""
        self._freezer.thaw()
        if self._covered:
            # Lazily: some may have been opened for reading meanwhile.
            self._run("umount", "--lazy", str(self._directory))
            self._covered = False
        (self.seen_from_outside / _BALLAST).unlink(missing_ok=True)

    def _run(self, *command: str) -> None:
        subprocess.run([*self.within, *command], check=True)

    @property
    def _mounted_by(self) -> int:
        assert self._holder is not None, "the disk was never mounted"
        return self._holder.pid
