"""The leader's disk becomes read-only, or hangs, in the middle of a run: another replica takes over, and none runs twice."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leaderjob.model.run import Outcome
from leaderjob.records.view import View
from tests.faults.harness.beating import lives, never_two
from tests.faults.harness.replicas import Fleet, MachineReplica, fleet
from tests.faults.harness.small_disk import SmallDisk
from tests.support.needs import needs
from tests.support.replicas import told, wait_for

_TTL_S = 5
_TAKEOVER_TIMEOUT_S = 60.0
"""A disk that hangs is looked at twice, for 10 s each time."""

slow = pytest.mark.slow
pytestmark = needs("machines", "disks")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk", tmp_path / "disk.log", freezable=True)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Fleet]:
    with (
        fleet(
            tmp_path,
            jobs="tests.faults.harness.beating",
            ttl_s=_TTL_S,
            names=("r1", "r2"),
            config='[overrides.ticks]\nschedule = ""\n',
            freezable=True,
        ) as pair,
        told(pair.start()),
        mended(pair),
    ):
        yield pair


@contextmanager
def mended(fleet: Fleet) -> Iterator[None]:
    """Whatever happens, nobody is left waiting for a disk."""
    try:
        yield
    finally:
        for replica in fleet.every():
            replica.disk.mend()


class Work:
    """A run of a job that beats: how often it began, and where."""

    def __init__(self, fleet: Fleet, directory: Path, job: str = "beats") -> None:
        self._fleet, self._job = fleet, job
        self._effects, self._gate = directory / "effects", directory / "gate"
        self._run = fleet.trigger(job, effects=str(self._effects), gate=str(self._gate))
        wait_for(self._effects)

    def may_end(self) -> None:
        self._gate.touch()

    def goes_on_elsewhere(self) -> None:
        """Return once a second worker has shown that it lives."""
        give_up_at = time.monotonic() + 3 * _TTL_S
        while len(lives(self._effects)) < 2:
            assert time.monotonic() < give_up_at, f"the run is not taken up again\n{self._fleet.logs()}"
            time.sleep(0.02)

    def ends_well_after(self, *replicas: MachineReplica) -> None:
        """It succeeds, each attempt was on one of these in this order, and no two of its workers met."""
        self.may_end()
        done = self._fleet.ended(self._job, self._run)
        assert done.outcome is Outcome.SUCCEEDED
        assert [attempt.replica for attempt in done.attempts] == [replica.name for replica in replicas]
        assert len(lives(self._effects)) == len(replicas)
        assert never_two(lives(self._effects))


def candidates(view: View) -> list[str]:
    return [stored.record.replica for stored in view.queue]


def on_another_lease(view: View, name: str, lease: str) -> bool:
    """Whether a replica is a member, by another session than that one."""
    member = view.members.get(name)
    return member is not None and member.lease != int(lease, 16)


def unfit(replica: MachineReplica, term: int) -> str:
    """Why it found itself unfit in that term."""
    return str(replica.said("unfit", term=term)[-1]["reason"])


def waits_until_it_is_fit(replica: MachineReplica) -> None:
    """Return once it has found itself unfit without a term."""
    give_up_at = time.monotonic() + 3 * _TTL_S
    while not replica.said("unfit", term=None):
        assert time.monotonic() < give_up_at, replica.log()
        time.sleep(0.02)


def test_a_disk_of_the_harness_is_read_only_until_it_is_mended(disk: SmallDisk) -> None:
    file = disk.seen_from_outside / "file"
    file.write_text("before")
    disk.make_read_only()
    with pytest.raises(OSError, match="Read-only file system"):
        file.write_text("meanwhile")
    assert file.read_text() == "before"
    disk.mend()
    file.write_text("after")
    assert file.read_text() == "after"


def test_a_disk_of_the_harness_lets_writes_wait_while_it_is_frozen(disk: SmallDisk) -> None:
    written = threading.Event()

    def write() -> None:
        (disk.seen_from_outside / "file").write_text("waited")
        written.set()

    writing = threading.Thread(target=write, daemon=True)
    disk.freeze()
    try:
        writing.start()
        assert not written.wait(0.3)
    finally:
        disk.mend()
    assert written.wait(5.0)
    writing.join()


@slow
def test_a_leader_whose_disk_is_read_only_hands_its_run_over_and_stands_again(
    two: Fleet, tmp_path: Path
) -> None:
    work, leader, token = Work(two, tmp_path), two.leader(), two.token()
    leader.disk.make_read_only()
    new = two.next_leader(leader.name, timeout_s=_TAKEOVER_TIMEOUT_S)
    assert two.token() > token
    assert os.strerror(errno.EROFS) in unfit(leader, token)
    assert leader.said("stepping_down", term=token)[-1]["reason"] == unfit(leader, token)
    work.goes_on_elsewhere()
    waits_until_it_is_fit(leader)
    two.until("it is a member", lambda view: leader.name in view.members)
    lease = leader.said("session_opened")[-1]["lease"]
    two.etcd.every[0].etcdctl("lease", "revoke", lease)
    view = two.until("it is one again", lambda view: on_another_lease(view, leader.name, lease))
    assert candidates(view) == [new.name]
    leader.disk.mend()
    two.until("it stands again", lambda view: candidates(view) == [new.name, leader.name], timeout_s=30)
    work.ends_well_after(leader, new)


@slow
def test_a_leader_whose_disk_hangs_loses_office_and_its_run_goes_on_elsewhere(
    two: Fleet, tmp_path: Path
) -> None:
    work, leader, token = Work(two, tmp_path), two.leader(), two.token()
    leader.disk.freeze()
    new = two.next_leader(leader.name, timeout_s=_TAKEOVER_TIMEOUT_S)
    assert two.token() > token
    assert "has not taken a few bytes within" in unfit(leader, token)
    assert leader.said("stepping_down", term=token)[-1]["reason"] == unfit(leader, token)
    work.goes_on_elsewhere()
    assert candidates(two.view()) == [new.name]
    leader.disk.mend()
    two.until("it stands again", lambda view: candidates(view) == [new.name, leader.name], timeout_s=30)
    work.ends_well_after(leader, new)


@slow
def test_a_leader_whose_disk_hangs_while_it_takes_a_result_in_loses_its_session(
    two: Fleet, tmp_path: Path
) -> None:
    work, leader, token = Work(two, tmp_path, "beats_and_returns"), two.leader(), two.token()
    leader.disk.freeze()
    work.may_end()
    new = two.next_leader(leader.name, timeout_s=_TAKEOVER_TIMEOUT_S)
    assert "could not end its work in time" in leader.said("session_lost", term=token)[-1]["reason"]
    two.serves("beats_and_returns", 1, names=[new.name])
    leader.disk.mend()
    two.until("it stands again", lambda view: candidates(view) == [new.name, leader.name], timeout_s=30)
    two.serves("beats_and_returns", 1)
    work.ends_well_after(leader, new)
