"""The faults that are drawn from: how often, for how long, and how each strikes and is healed."""

import signal
from collections.abc import Callable
from dataclasses import dataclass

from leaderjob.etcd import Etcd
from leaderjob.scheduling.alarm import RECHECK_S
from tests.faults.harness.children import guards_of, send, workers_of
from tests.faults.harness.members import Network
from tests.faults.harness.replicas import MachineReplica
from tests.faults.history import Intervention
from tests.faults.sequences.held_up import (
    guards_stopped_before_a_worker_begins,
    loop_stalled,
    stopped_before_a_worker_begins,
)
from tests.faults.sequences.stage import Heal, Stage, Strike
from tests.faults.sequences.upkeep import compacted_while_a_follower_is_cut_off, out_of_space
from tests.support.needs import missing

TTL_S = 5
"""The shortest with which leadership is promised to outlast the death of an etcd leader."""
LONGEST_WITHOUT_QUORUM_S = TTL_S + 2.0
"""No fault, and no two at a time, leave etcd without a quorum for longer."""

_ELECTION_S = 4.0
"""In which etcd has another leader, and clients have found it."""
_AHEAD_S = 2 * TTL_S
"""Enough to end every lease that went by this clock; set back again, nothing is due for as long."""
_HOUR_S = 3600
_CLOCK_LOOKS_S = RECHECK_S + 2.0
"""In which a leader has noticed that its clock was set forward: by that much its fires may be late, and no more."""
_FITNESS_LOOKS_S = 12.0
"""In which a leader whose disk was bad has given up office, where it will."""


@dataclass(frozen=True, slots=True)
class Fault:
    """:param weight: how often it is drawn, compared with the others. :param lasts_s: at least and at most.
    :param etcd: it strikes etcd, or needs all of it: only one such fault at a time.
    :param replicas: how many replicas it may keep from leading; never all of them at a time.
    :param disk: it strikes a disk: only one such fault at a time, as one would undo the other.
    :param needs_machines: it needs machines of their own. :param needs_clocks: it needs a clock for each replica."""

    name: str
    strike: Strike
    weight: int = 2
    lasts_s: tuple[float, float] = (0.5, 3.0)
    etcd: bool = False
    replicas: int = 1
    disk: bool = False
    needs_machines: bool = False
    needs_clocks: bool = False


def _nothing() -> None:
    """What passes by itself."""


def _started_again(*replicas: MachineReplica) -> Heal:
    def heal() -> None:
        for replica in replicas:
            replica.link.heal()
            if not replica.runs:
                replica.start()

    return heal


def _leader_killed(stage: Stage) -> Heal:
    leader = stage.leader
    leader.kill()
    return _started_again(leader)


def _follower_killed(stage: Stage) -> Heal:
    follower = stage.follower
    follower.kill()
    return _started_again(follower)


def _leader_and_next_killed(stage: Stage) -> Heal:
    dying = stage.standing[:2]
    for replica in dying:
        replica.send(signal.SIGSTOP)  # neither is to see the other one die
    for replica in dying:
        replica.kill()
    return _started_again(*dying)


def _leader_terminated(stage: Stage) -> Heal:
    leader = stage.leader
    leader.terminate(within_s=20.0)
    return _started_again(leader)


def _host_lost(stage: Stage) -> Heal:
    leader = stage.leader
    leader.lose_host()
    return _started_again(leader)


def _leader_stopped(stage: Stage) -> Heal:
    leader = stage.leader
    leader.send(signal.SIGSTOP)

    def heal() -> None:
        if leader.runs:
            leader.send(signal.SIGCONT)

    return heal


def _cut_from_etcd(*, sending: bool, hearing: bool) -> Strike:
    def strike(stage: Stage) -> Heal:
        leader = stage.leader
        leader.link.cut_from_etcd(sending=sending, hearing=hearing)
        return leader.link.heal

    return strike


def _leader_cut_off(stage: Stage) -> Heal:
    leader = stage.leader
    leader.link.cut_off()
    return leader.link.heal


def _replicas_rejected(stage: Stage) -> Heal:
    leader = stage.leader
    # Whoever dialled while the rules were there may still come to its verdict for a moment.
    note = stage.note(Intervention.REJECTION, 3.0)
    leader.link.reject_replicas()

    def heal() -> None:
        leader.link.heal()
        note.end()

    return heal


def _children(which: Callable[[int], list[int]], number: signal.Signals) -> Strike:
    def strike(stage: Stage) -> Heal:
        found = which(stage.leader.pid)
        send(found, number)
        return lambda: send(found, signal.SIGCONT)

    return strike


def _disk_full(stage: Stage) -> Heal:
    disk = stage.leader.disk
    disk.fill()
    return disk.mend


def _disk_read_only(stage: Stage) -> Heal:
    disk = stage.leader.disk
    disk.make_read_only()
    return disk.mend


def _clock_set(ahead_s: int) -> Strike:
    def strike(stage: Stage) -> Heal:
        leader = stage.leader
        note = stage.note(Intervention.CLOCK_SET, _CLOCK_LOOKS_S, about=leader.name)
        leader.clock.set(ahead_s)

        def heal() -> None:
            leader.clock.set(0)
            note.end()

        return heal

    return strike


def _lease_revoked(stage: Stage) -> Heal:
    note = stage.note(Intervention.REVOCATION, 1.0, about=stage.lease)

    async def revoke() -> None:
        # A leader that another fault has ended may have given its lease back already.
        async with Etcd([stage.etcd[0].endpoint]) as operator:
            await operator.revoke(int(stage.lease, 16))

    stage.fleet.run(revoke())
    return note.end


def _key_deleted(stage: Stage) -> Heal:
    stage.etcd[0].etcdctl("del", stage.key)
    return _nothing


def _resigned(stage: Stage) -> Heal:
    stage.fleet.cli("resign", "--json")
    return _nothing


def _noted(kind: Intervention, strike: Strike, *, aftermath_s: float = 0.0) -> Strike:
    """What may be the leader's reason to give up office."""

    def noting(stage: Stage) -> Heal:
        note = stage.note(kind, aftermath_s, about=stage.leader.name)
        heal = strike(stage)

        def healed() -> None:
            heal()
            note.end()

        return healed

    return noting


def _held_up(strike: Strike) -> Strike:
    return _noted(Intervention.HELD_UP, strike)


def _bad_disk(strike: Strike) -> Strike:
    return _noted(Intervention.BAD_DISK, strike, aftermath_s=_FITNESS_LOOKS_S)


def _member_killed(number: int) -> Strike:
    """:param number: 0 is etcd's leader. Without a follower the quorum stands, and that excuses nothing."""

    def strike(stage: Stage) -> Heal:
        note = stage.note(Intervention.OUTAGE, _ELECTION_S) if number == 0 else None
        member = stage.etcd[number]
        member.kill()

        def heal() -> None:
            stage.fleet.run(member.restart())
            if note is not None:
                note.end()

        return heal

    return strike


def _members_stopped(count: int) -> Strike:
    """:param count: 1: etcd's leader, 2: the quorum with it."""

    def strike(stage: Stage) -> Heal:
        note = stage.note(Intervention.OUTAGE, _ELECTION_S)
        for member in stage.etcd[:count]:
            member.stop()

        def heal() -> None:
            # A leader that goes on revokes leases which the one after it has renewed, before it learns of that one
            # (etcd #15247).
            revoked = stage.note(Intervention.REVOCATION, 1.0)
            for member in stage.etcd[:count]:
                member.resume()
            note.end()
            revoked.end()

        return heal

    return strike


def _member_cut_off(number: int) -> Strike:
    """:param number: 0 is etcd's leader; without a follower, nothing is excused, as in :func:`_member_killed`."""

    def strike(stage: Stage) -> Heal:
        note = stage.note(Intervention.OUTAGE, _ELECTION_S) if number == 0 else None
        member = stage.etcd[number]
        stage.fleet.run(member.link.cut())

        def heal() -> None:
            stage.fleet.run(member.link.heal())
            if note is not None:
                note.end()

        return heal

    return strike


def _follower_stopped(stage: Stage) -> Heal:
    """It takes connections, and answers nothing."""
    member = stage.etcd[1]
    member.stop()
    return member.resume


_BEYOND_TTL = (TTL_S + 0.5, TTL_S + 3.0)
_ANYTHING = (0.5, TTL_S + 2.0)
_FOUND_UNFIT = (4.0, 14.0)
"""A leader looks at its disk every 5 s, and gives up office when it was bad twice."""

FAULTS = (
    Fault("leader killed", _leader_killed, weight=4),
    Fault("follower killed", _follower_killed),
    Fault("leader and next in line killed", _leader_and_next_killed, replicas=2),
    Fault("leader terminated", _leader_terminated, weight=3),
    Fault("leader resigns", _resigned, etcd=True),
    Fault("leader's host lost", _host_lost, needs_machines=True),
    Fault("leader paused beyond its TTL", _held_up(_leader_stopped), weight=3, lasts_s=_BEYOND_TTL),
    Fault("leader paused for a moment", _held_up(_leader_stopped), lasts_s=(0.2, 2.5)),
    Fault(
        "leader paused before a worker begins",
        _held_up(stopped_before_a_worker_begins),
        weight=3,
        lasts_s=_ANYTHING,
    ),
    Fault("leader's loop stalled", _held_up(loop_stalled), lasts_s=(TTL_S / 3, 3.0)),
    Fault("leader's loop stalled beyond its TTL", _held_up(loop_stalled), lasts_s=_BEYOND_TTL),
    Fault("leader cut off from etcd", _cut_from_etcd(sending=True, hearing=True), lasts_s=_ANYTHING),
    Fault("leader not heard by etcd", _cut_from_etcd(sending=True, hearing=False), lasts_s=_ANYTHING),
    Fault("leader does not hear etcd", _cut_from_etcd(sending=False, hearing=True), lasts_s=_ANYTHING),
    Fault("leader cut off from all", _leader_cut_off, lasts_s=_ANYTHING, needs_machines=True),
    Fault("leader's replicas rejected", _replicas_rejected, weight=3, needs_machines=True),
    Fault("workers killed", _children(workers_of, signal.SIGKILL), replicas=0),
    Fault("workers stopped", _children(workers_of, signal.SIGSTOP), replicas=0),
    Fault("guards killed", _children(guards_of, signal.SIGKILL), replicas=0),
    Fault("guards stopped", _children(guards_of, signal.SIGSTOP), replicas=0, lasts_s=(0.5, 5.0)),
    Fault(
        "guards stopped before a worker begins",
        guards_stopped_before_a_worker_begins,
        replicas=0,
        lasts_s=(0.5, 5.0),
    ),
    Fault(
        "leader's disk full",
        _bad_disk(_disk_full),
        weight=1,
        lasts_s=_FOUND_UNFIT,
        disk=True,
        needs_machines=True,
    ),
    Fault(
        "leader's disk read-only",
        _bad_disk(_disk_read_only),
        lasts_s=_FOUND_UNFIT,
        disk=True,
        needs_machines=True,
    ),
    Fault("leader's clock set ahead", _clock_set(_AHEAD_S), replicas=0, lasts_s=_ANYTHING, needs_clocks=True),
    Fault("leader's clock set back", _clock_set(-_HOUR_S), replicas=0, lasts_s=_ANYTHING, needs_clocks=True),
    Fault("leader's lease revoked", _lease_revoked, etcd=True),
    Fault("leader's key deleted", _key_deleted, etcd=True),
    Fault("etcd's leader killed", _member_killed(0), weight=3, lasts_s=(1.0, 5.0), etcd=True),
    Fault("etcd's leader stopped", _members_stopped(1), weight=2, lasts_s=(1.0, 6.0), etcd=True),
    Fault("etcd's leader cut off", _member_cut_off(0), weight=2, lasts_s=(1.0, 6.0), etcd=True),
    Fault("a follower of etcd killed", _member_killed(1), weight=1, etcd=True),
    Fault("a follower of etcd stopped", _follower_stopped, lasts_s=(1.0, 8.0), etcd=True),
    Fault("a follower of etcd cut off", _member_cut_off(1), weight=1, lasts_s=(1.0, 8.0), etcd=True),
    Fault("quorum lost for a moment", _members_stopped(2), lasts_s=(0.5, 2.0), etcd=True),
    Fault(
        "quorum lost beyond the TTL",
        _members_stopped(2),
        weight=1,
        lasts_s=(TTL_S + 0.5, LONGEST_WITHOUT_QUORUM_S),
        etcd=True,
    ),
    Fault("etcd out of space", out_of_space, lasts_s=(1.0, TTL_S + 4.0), etcd=True),
    Fault(
        "etcd compacted, a follower cut off",
        compacted_while_a_follower_is_cut_off,
        lasts_s=(TTL_S + 1.0, TTL_S + 4.0),
        etcd=True,
    ),
)


def possible(network: Network) -> list[Fault]:
    """Those that replicas on such a network can be struck with, on this machine."""
    return [
        fault
        for fault in FAULTS
        if (network == "namespaces" or not fault.needs_machines)
        and (missing("faketime") is None or not fault.needs_clocks)
    ]
