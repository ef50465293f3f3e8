"""A control group (cgroup v2) for each worker, where one may be made below this process's own.

Its ``cgroup.kill`` kills all of it at once, however it forks, and also what nothing else finds once the guard is dead:
a process in a session of its own and with an environment of its own. Where the file system is read-only, the
hierarchy is another process's, or the kernel is older than 5.14, workers have none, and the guard's walk through
``/proc`` does alone what it does anyway.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PREFIX = "leaderjob-"


def own_cgroup(proc: Path = Path("/proc/self")) -> Path | None:
    """The directory of this process's group in the hierarchy of version 2; None: it has none, or none is mounted.

    Also where the hierarchies of version 1 are in use beside it.
    """
    try:
        lines = (proc / "cgroup").read_text().splitlines()
        mounts = (proc / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None or path.startswith("/.."):  # it is outside of what this container sees
        return None
    for mount in mounts:
        fields, _, kind = mount.partition(" - ")
        if kind.split(" ", 1)[0] != "cgroup2":
            continue
        root, where = fields.split(" ")[3:5]
        if Path(path).is_relative_to(root):
            return Path(where) / Path(path).relative_to(root)
    return None


def make_cgroup(mark: str) -> Path | None:
    """A new one below this process's own, or None: there can be none."""
    parent = own_cgroup()
    if parent is None:
        return None
    group = parent / f"{_PREFIX}{_owner()}-{mark}"
    try:
        group.mkdir()
    except OSError:
        return None
    if not (group / "cgroup.kill").exists():
        group.rmdir()
        return None
    return group


def kill_cgroup(group: Path) -> None:
    """SIGKILL to all that is in it, groups below it too. Nothing happens where it is gone."""
    with suppress(OSError):
        (group / "cgroup.kill").write_bytes(b"1")


def is_populated(group: Path) -> bool:
    """Whether a process in it, or in a group below it, has not died yet."""
    try:
        return "populated 1" in (group / "cgroup.events").read_text()
    except OSError:
        return False


def remove_cgroup(group: Path) -> None:
    """Remove it. It stays while somebody who was killed has not died; :func:`kill_leftovers` looks again."""
    with suppress(OSError):
        group.rmdir()


def kill_leftovers() -> None:
    """Kill what workers of dead replicas left in groups beside ours, because their guards were killed as well."""
    parent = own_cgroup()
    for group in _groups(parent) if parent is not None else ():
        owner = group.name.removeprefix(_PREFIX).rpartition("-")[0]
        namespace, pid, started = owner.split("-")
        # Of another namespace nobody here can say who is alive.
        if namespace == _namespace() and _started(pid) != started:
            kill_cgroup(group)
            remove_cgroup(group)


def _groups(parent: Path) -> Iterator[Path]:
    for group in parent.glob(f"{_PREFIX}*"):
        if group.name.count("-") == _PREFIX.count("-") + 3:
            yield group


def _owner() -> str:
    return f"{_namespace()}-{os.getpid()}-{_started('self')}"


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)


def _started(pid: str) -> str | None:
    """When that process began, in ticks since the machine did: a pid alone may be given away again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
