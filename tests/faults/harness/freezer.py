"""A filesystem that is stopped: what is written to it waits, for as long as it is."""

import subprocess
from pathlib import Path

_FREEZE = "fsfreeze --freeze . || exit 1; echo frozen; read -r _; fsfreeze --unfreeze ."


class Freezer:
    """Freezes one filesystem at a time.

    It stays frozen only as long as this process lives: nothing else could wake whoever waits for it.
    """

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None

    def freeze(self, directory: Path) -> None:
        """Return when whatever is written to the filesystem of that directory waits."""
        assert self._shell is None, "it is frozen already"
        self._shell = subprocess.Popen(
            ["sh", "-c", _FREEZE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=directory,
            start_new_session=True,  # what ends the tests must not end it: nobody would thaw the disk
        )
        assert self._shell.stdout is not None
        assert self._shell.stdout.readline() == b"frozen\n", "the disk could not be frozen"

    def thaw(self) -> None:
        """Let everything go on. No-op if it is not frozen."""
        if self._shell is not None:
            self._shell.communicate()
            assert self._shell.returncode == 0, "the disk could not be thawed"
            self._shell = None
