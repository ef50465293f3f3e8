"""Child processes that end with their parent, whatever ends it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Runs between fork and exec, in a process of its own: `preexec_fn` is not safe beside threads. SIGKILL,
# because a stopped process obeys no other signal.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
parent, command = int(sys.argv[1]), sys.argv[2:]
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
    sys.exit("prctl(PR_SET_PDEATHSIG): " + os.strerror(ctypes.get_errno()))
if os.getppid() != parent:
    sys.exit("the process that wanted this one is gone")
try:
    os.execv(command[0], command)
except OSError as error:
    sys.exit(command[0] + " cannot be run: " + str(error))
"""


def spawn(
    command: Sequence[str], output: IO[bytes], *, environment: Mapping[str, str], cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a program by its path, in a session of its own, so that Ctrl-C in a terminal does not reach it.

    The kernel kills it when **the thread that started it** ends: call this from the main thread, or from
    one that lives as long.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        cwd=cwd,
        start_new_session=True,
    )
