"""What is known when a fault is about to strike: whom it may hit."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from leaderjob.clock import boottime
from tests.faults.harness.member import Member
from tests.faults.harness.replicas import Fleet, MachineReplica
from tests.faults.history import Intervention, Recorder


@dataclass(frozen=True, slots=True)
class Stage:
    """One look at a cluster. Faults that strike after it hold to it: while they last, nobody may answer.

    :param queue: the replicas in line, the leader first. :param key: the leader's.
    :param etcd: the members, etcd's leader first. :param dice: for choices between equals.
    """

    fleet: Fleet
    recorder: Recorder
    queue: tuple[MachineReplica, ...]
    key: str
    etcd: tuple[Member, ...]
    dice: random.Random

    @property
    def standing(self) -> list[MachineReplica]:
        """Those in line whose process no other fault has ended meanwhile."""
        return [replica for replica in self.queue if replica.runs]

    @property
    def leader(self) -> MachineReplica:
        return self.standing[0]

    @property
    def follower(self) -> MachineReplica:
        return self.dice.choice(self.standing[1:] or self.standing)

    @property
    def lease(self) -> str:
        """The leader's, in hex."""
        return self.key.rpartition("/")[2]

    def note(self, kind: Intervention, aftermath_s: float, *, about: str = "") -> "Note":
        """Tell the checker that something begins; end it with :meth:`Note.end`."""
        return Note(self.recorder, kind, aftermath_s, about, boottime())


@dataclass(frozen=True, slots=True)
class Note:
    """An intervention that has begun. :param aftermath_s: how long it is felt when it is over."""

    recorder: Recorder
    kind: Intervention
    aftermath_s: float
    about: str
    since: float

    def end(self) -> None:
        until = boottime() + self.aftermath_s
        self.recorder.note(self.kind, since=self.since, until=until, about=self.about)


Heal = Callable[[], None]
Strike = Callable[[Stage], Heal]
"""Does something, and returns what undoes it."""


def look(fleet: Fleet, recorder: Recorder, seed: int) -> Stage:
    """Who is what, once all are in line and one of them leads."""
    view = fleet.in_line()
    assert view.leader_key is not None
    leader = fleet.run(fleet.etcd.leader())
    return Stage(
        fleet=fleet,
        recorder=recorder,
        queue=tuple(fleet[stored.record.replica] for stored in view.queue),
        key=view.leader_key.key,
        etcd=(leader, *fleet.etcd.besides(leader)),
        dice=random.Random(seed),
    )
