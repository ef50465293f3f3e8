"""Where a cgroup may be made, a worker has one of its own, and nothing of it outlives that."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.execution import cgroup
from leaderjob.execution.cgroup import kill_cgroup, kill_leftovers, make_cgroup, own_cgroup, remove_cgroup
from leaderjob.execution.process import GuardedProcess
from leaderjob.modules import environment_for_children
from tests.support import marked
from tests.support.replicas import gone_within


def _may_make() -> bool:
    made = make_cgroup("probe")
    if made is not None:
        remove_cgroup(made)
    return made is not None


needs_cgroup = pytest.mark.skipif(
    not _may_make(), reason="a cgroup v2 needs to be writable for this user, and its kernel 5.14 or newer"
)

# A process that neither the tree nor the environment gives away, once its guard is dead.
HIDES = """
import os, sys, time
def tell(text): os.write(int(sys.argv[-1]), b'{"pid": %d}\\n' % text)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.set_inheritable(int(sys.argv[-1]), True)
        hidden = "import os, sys, time; os.write(int(sys.argv[1]), b'{\\"pid\\": %d}\\\\n' % os.getpid()); time.sleep(1000)"
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", hidden, sys.argv[-1]], {})
    os._exit(0)
os.wait()
time.sleep(1000)
"""


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


@pytest.fixture
def none_left() -> Iterator[None]:
    """Of the groups that this process makes; others may be at work beside it."""
    parent = own_cgroup()
    assert parent is not None
    yield
    assert list(parent.glob(f"leaderjob-*-{os.getpid()}-*")) == []


def guarded(tmp_path: Path, code: str) -> GuardedProcess:
    command = [sys.executable, "-I", "-S", "-c", code]
    return GuardedProcess(
        command, log_path=tmp_path / "log", cwd=tmp_path, deadline=None, grace_s=0.2, silence_s=1.0
    )


async def hidden_pid(process: GuardedProcess) -> int:
    async for message in process.messages():
        pid = message["pid"]
        assert isinstance(pid, int)
        return pid
    raise AssertionError(f"the worker said nothing: {await process.wait()}")


def group_of(pid: int) -> Path:
    found = own_cgroup(Path(f"/proc/{pid}"))
    assert found is not None
    return found


@needs_cgroup
async def test_a_worker_is_in_a_group_of_its_own_and_its_guard_is_not(
    tmp_path: Path, mark: str, none_left: None
) -> None:
    async with guarded(tmp_path, HIDES) as process:
        group = group_of(await hidden_pid(process))
        assert group.name.startswith("leaderjob-")
        assert group_of(process.pid) == own_cgroup() == group.parent


@needs_cgroup
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_hides_is_killed_though_the_guard_is_lost(
    tmp_path: Path, mark: str, none_left: None, number: int
) -> None:
    async with guarded(tmp_path, HIDES) as process:
        hidden = await hidden_pid(process)
        os.kill(process.pid, number)
        ended = await process.wait()
    assert ended.reaped
    assert gone_within(hidden, 0.0), "it was said to be gone"


@needs_cgroup
async def test_without_a_walk_through_proc_the_group_kills_what_has_fled_the_workers_session(
    tmp_path: Path, mark: str, none_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = tmp_path / "blind.py"
    folder = str(Path(str(cgroup.__file__)).parent)
    blind.write_text(
        f"import sys; sys.path.append({folder!r}); import guard; guard.descendants = lambda root: []\n"
        "guard.REAP_BOUND_S = 2.0; guard.main(sys.argv[1:])\n"
    )
    monkeypatch.setattr("leaderjob.execution.start_guard.__file__", str(blind))

    async with guarded(tmp_path, HIDES) as process:
        hidden = await hidden_pid(process)
        process.kill()
        ended = await process.wait()
    assert ended.reaped
    assert gone_within(hidden, 0.0)


_REPLICA = """
import asyncio, sys
from pathlib import Path
from leaderjob.execution.process import GuardedProcess
async def main():
    here = Path.cwd()
    command = [sys.executable, "-I", "-S", "-c", sys.argv[1]]
    async with GuardedProcess(command, log_path=here / "log", cwd=here, deadline=None, grace_s=5.0) as process:
        async for message in process.messages():
            print(process.pid, message["pid"], flush=True)
asyncio.run(main())
"""


@needs_cgroup
@pytest.mark.parametrize("too", [False, True], ids=["replica killed", "guard killed too"])
def test_after_the_death_of_a_replica_nothing_is_left_of_its_groups(
    tmp_path: Path, mark: str, none_left: None, too: bool
) -> None:
    """Where its guard is killed as well: at the next start of a replica."""
    command = [sys.executable, "-c", _REPLICA, HIDES]
    environment = environment_for_children(os.environ)
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, env=environment) as replica:
        assert replica.stdout is not None
        guard, hidden = map(int, replica.stdout.readline().split())
        group = group_of(hidden)
        kill_leftovers()
        assert not gone_within(hidden, 0.1), "its replica lives"
        if too:
            replica.send_signal(signal.SIGSTOP)  # it cannot tidy up
            os.kill(guard, signal.SIGKILL)
        replica.kill()
    assert gone_within(guard, 2.0)
    if too:  # nothing else finds it than this, here or in any other replica that begins meanwhile
        kill_leftovers()
        assert gone_within(hidden, 2.0)
    assert gone_within(hidden, 0.0)
    give_up_at = time.monotonic() + 2.0
    while group.exists():  # the kernel lets go of it a moment after the last process in it
        assert time.monotonic() < give_up_at, "nobody removes the group"
        time.sleep(0.01)
        if too:
            kill_leftovers()


@needs_cgroup
def test_a_group_that_others_made_is_left_alone() -> None:
    parent = own_cgroup()
    assert parent is not None
    of_another_namespace = f"leaderjob-1-{os.getpid()}-1-{'0' * 16}"
    others = [parent / name for name in (f"leaderjob-of-{os.getpid()}", of_another_namespace)]
    for other in others:
        other.mkdir()
    try:
        kill_leftovers()
        assert all(other.exists() for other in others)
    finally:
        for other in others:
            other.rmdir()


def proc(directory: Path, groups: str, mounts: str) -> Path:
    """What a process reads of itself under /proc."""
    (directory / "cgroup").write_text(groups)
    (directory / "mountinfo").write_text(mounts)
    return directory


_PURE = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
_HYBRID = (
    "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 30 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
_BOUND = "30 23 0:26 /system.slice/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "found"),
    [
        ("0::/system.slice/x\n", _PURE, "/sys/fs/cgroup/system.slice/x"),
        ("0::/\n", _PURE, "/sys/fs/cgroup"),
        ("4:memory:/a\n0::/b\n", _HYBRID, "/sys/fs/cgroup/unified/b"),
        ("0::/system.slice/x/y\n", _BOUND, "/sys/fs/cgroup/y"),
        ("0::/elsewhere\n", _BOUND, None),
        ("0::/../outside\n", _PURE, None),
        ("4:memory:/a\n", _HYBRID, None),
        ("0::/b\n", "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", None),
    ],
    ids=["pure", "container", "hybrid", "bound", "not below", "outside", "version 1", "not mounted"],
)
def test_the_own_group_is_found_wherever_it_is_mounted(
    tmp_path: Path, groups: str, mounts: str, found: str | None
) -> None:
    own = own_cgroup(proc(tmp_path, groups, mounts))
    assert (str(own) if own is not None else None) == found


@pytest.mark.parametrize("how", ["read-only", "no cgroup.kill", "nothing mounted"])
async def test_without_a_group_a_worker_runs_and_ends_as_ever(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    parent = tmp_path / "cgroup"
    parent.mkdir()
    places = {"read-only": Path("/proc"), "no cgroup.kill": parent}
    monkeypatch.setattr(cgroup, "own_cgroup", lambda: places.get(how))

    assert make_cgroup("mark") is None
    async with guarded(tmp_path, HIDES) as process:
        await hidden_pid(process)
        process.kill()
        assert (await process.wait()).reaped
    assert list(parent.iterdir()) == []
    assert marked.alive(mark) == []


async def test_a_group_that_cannot_be_entered_or_is_gone_does_no_harm(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setattr("leaderjob.execution.guarded.make_cgroup", lambda mark: gone)

    async with guarded(tmp_path, HIDES) as process:
        await hidden_pid(process)
        process.kill()
        assert (await process.wait()).reaped
    kill_cgroup(gone)
    remove_cgroup(gone)
    assert not gone.exists()
