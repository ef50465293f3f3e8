"""Kills a worker's processes when its guard cannot: because the guard is dead, or stopped.

A dead guard's grandchildren belong to init, so the process tree no longer says whose they are. Their
environment does: every worker is started with a mark of its own, which its children inherit. (A process
that was given an empty environment *and* outlived its guard is the one that this cannot find; the worker's
cgroup does, where it has one.) The same idea keeps build servers clean.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from leaderjob.clock import boottime
from leaderjob.execution.cgroup import is_populated, kill_cgroup
from leaderjob.execution.process_tree import all_pids, descendants, is_descendant, kill_if

MARK = "LEADERJOB_RUN_MARK"

_LOOK_AGAIN_S = 0.01


async def sweep(guard: int, mark: str, *, group: Path | None = None, bound_s: float = 5.0) -> bool:
    """Kill everything that runs under ``guard``, carries ``mark`` or is in ``group``, and then the guard itself.

    Returns whether nothing of it is left alive; a zombie counts as dead.
    """
    needle = f"{MARK}={mark}".encode()

    def belongs(pid: int) -> bool:
        return is_descendant(pid, guard) or carries(pid, needle)

    def targets() -> list[int]:
        marked = [pid for pid in all_pids() if carries(pid, needle)]
        return [pid for pid in {*descendants(guard), *marked} if pid != guard and is_alive(pid)]

    give_up_at = boottime() + bound_s
    if group is not None:
        kill_cgroup(group)
    swept = await _kill_until_gone(targets, belongs, give_up_at)
    # Last, because its death is what makes orphans of the others.
    kill_if(guard, lambda pid: carries(pid, needle))
    swept = await _kill_until_gone(targets, belongs, give_up_at) and swept
    while group is not None and is_populated(group):
        if boottime() >= give_up_at:
            return False
        await asyncio.sleep(_LOOK_AGAIN_S)
    return swept


async def _kill_until_gone(
    targets: Callable[[], list[int]], belongs: Callable[[int], bool], give_up_at: float
) -> bool:
    while alive := targets():
        if boottime() >= give_up_at:
            return False
        for pid in alive:
            kill_if(pid, belongs)
        await asyncio.sleep(_LOOK_AGAIN_S)
    return True


def carries(pid: int, needle: bytes) -> bool:
    """Whether the environment that ``pid`` was started with contains ``NAME=VALUE``."""
    try:
        return needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # gone, or another user's: not ours either way


def is_alive(pid: int) -> bool:
    """Whether ``pid`` exists and is more than a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return state not in (b"Z", b"X")


def new_mark() -> str:
    return os.urandom(8).hex()
