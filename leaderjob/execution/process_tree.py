"""What runs below a process, by /proc, and how to kill it and nothing else.

The guard is made of this as well, so the same holds here: little of the standard library, and nothing of ours.
"""
# ruff: noqa: PTH123, PTH208 - pathlib is a fifth of the guard's memory

import errno
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_NUM_THREADS = 16  # in /proc/PID/stat, behind the state


def parent_of(pid: int) -> int:
    """The parent's pid, or 0 if there is no such process (any more) or it is hidden from this user."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(root: int) -> list[int]:
    """Every process below ``root``, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid in all_pids():
        children.setdefault(parent_of(pid), []).append(pid)
    found: list[int] = []
    ahead = [root]
    while ahead:
        below = children.pop(ahead.pop(), [])
        found += below
        ahead += below
    return found


def has_children(but: int) -> bool:
    """Whether this process has a child beside ``but``; True where the kernel does not tell."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return file.read().split() not in ([], [str(but).encode()])
    except OSError:
        return True


def is_resource_tracker(pid: int) -> bool:
    """Whether it is what ``multiprocessing`` starts to remove shared memory and semaphores that were left behind.

    That has one thread. Its arguments alone are read: to read those of a process that waits for a disk, or has another
    thread that does, takes as long as the disk.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
        if state == b"D" or fields[_NUM_THREADS] != b"1":
            return False
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"resource_tracker import main" in file.read(4096)
    except OSError:
        return False


def is_descendant(pid: int, root: int) -> bool:
    while pid > 1:
        pid = parent_of(pid)
        if pid == root:
            return True
    return False


def kill_if(pid: int, still_meant: "Callable[[int], bool]") -> None:
    """SIGKILL ``pid`` if it is still the process that is meant: a pid can be given to another one at any time,
    and what is checked after a descriptor of it was opened is true of the process that the signal goes to."""
    descriptor = None
    try:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # an old kernel, a strict sandbox
                return
        if not still_meant(pid):
            return
        if descriptor is None:
            os.kill(pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone already, or out of reach: whoever asked looks again and reports what is left
    finally:
        if descriptor is not None:
            os.close(descriptor)
