"""A sequence, played on a cluster of its own; afterwards the checker looks at all that happened."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from leaderjob.clock import boottime
from leaderjob.model.member import Member
from leaderjob.records.view import View
from tests.faults.harness.members import Network
from tests.faults.harness.replicas import Fleet, fleet
from tests.faults.history import JOBS, Bounds, Intervention, Recorder, Violation, Watched, check
from tests.faults.sequences.draw import Step
from tests.faults.sequences.faults import TTL_S
from tests.faults.sequences.stage import Stage, look
from tests.faults.sequences.upkeep import QUOTA_BYTES
from tests.support.replicas import leads, served

_MARGIN_S = TTL_S / 4
_LATENESS_S = 0.5
"""Workers that are killed at a deadline on a busy machine may leave a line so much later."""
_REST_TIMEOUT_S = 60.0
_STANDS_STILL_S = 4.0
_QUIET_S = 3 * _STANDS_STILL_S
"""Undisturbed, so that what stands still under a leader that is well is seen to; after every fifth step, and at the end
of what is longer."""
_QUIET_AFTER_STEPS = 5

Tell = Callable[["Struck"], None]


@dataclass(frozen=True, slots=True)
class Struck:
    """What followed from one step.

    :param at_s: since the sequence began. :param acting_ms: from the strike to the first moment at which another
        term acts; None: the term that was in office stayed there. :param orderly_s: from the healing to all replicas
        in line behind a leader.
    """

    step: Step
    at_s: float
    before: str
    after: str
    acting_ms: float | None
    orderly_s: float


@dataclass(frozen=True, slots=True)
class Played:
    struck: tuple[Struck, ...]
    violations: tuple[Violation, ...]


def play(
    steps: Sequence[Step],
    directory: Path,
    *,
    tell: Tell,
    binary: Path | None = None,
    network: Network | None = None,
) -> Played:
    """:param tell: is told of each step when it is over. :raises AssertionError: the cluster did not recover."""
    directory.mkdir(parents=True, exist_ok=True)
    watched = Watched(directory)
    with fleet(
        directory,
        jobs=JOBS,
        ttl_s=TTL_S,
        config=watched.config(),
        binary=binary,
        network=network,
        quota_bytes=QUOTA_BYTES,
        clocks=any(fault.needs_clocks for step in steps for fault in step.faults),
    ) as three:
        links = [member.link for member in three.etcd.every]
        recorder = Recorder(
            [link.addresses.listens_to_clients for link in links],
            three.namespace,
            source=links[0].unhurt_source,
        )
        with recorder:
            for replica in three.every():
                replica.settings |= watched.settings()
                watched.follow(replica.name, log=replica.log_path, state_dir=replica.state_seen_from_outside)
            three.start()
            began = time.monotonic()
            struck = []
            for number, step in enumerate(steps, 1):
                done = _strike(step, three, recorder, began)
                if number % _QUIET_AFTER_STEPS == 0 or number == len(steps) > _QUIET_AFTER_STEPS:
                    time.sleep(_QUIET_S)
                tell(done)
                struck.append(done)
            return Played(tuple(struck), _judged(three, recorder, watched))


def _strike(step: Step, three: Fleet, recorder: Recorder, began: float) -> Struck:
    stage = look(three, recorder, step.seed)
    struck_at = boottime()
    at_s = time.monotonic() - began
    heals = [step.faults[0].strike(stage)]
    for fault in step.faults[1:]:
        time.sleep(step.second_after_s)
        heals.append(fault.strike(stage))
    time.sleep(step.lasts_s)
    for heal in heals:
        heal()
    healed_at = boottime()
    _wait_for_a_leader_without_doubt(three, healed_at)
    orderly_at = boottime()
    recorder.note(Intervention.FAULT, since=struck_at, until=orderly_at, about=step.name)
    acting = _first_to_act(stage, struck_at)
    time.sleep(step.rest_s)
    return Struck(
        step=step,
        at_s=round(at_s, 1),
        before=stage.queue[0].name,
        after=acting[1] if acting else stage.queue[0].name,
        acting_ms=round((acting[0] - struck_at) * 1000, 1) if acting else None,
        orderly_s=round(orderly_at - healed_at, 1),
    )


def _wait_for_a_leader_without_doubt(three: Fleet, healed_at: float) -> None:
    """Return when all are in line, and the first was confirmed in office after the healing: a key that is
    still there may be that of a term that is over."""
    give_up_at = boottime() + _REST_TIMEOUT_S
    while True:
        leader = three[str(leads(three.in_line()))]
        if any(line["boottime_s"] > healed_at for line in leader.said("trust_extended")):
            return
        assert boottime() < give_up_at, f"no leader is confirmed in office\n{three.logs()}"
        time.sleep(0.05)


def _first_to_act(stage: Stage, struck_at: float) -> tuple[float, str] | None:
    """When a term began to act after the strike, and whose; None: the one before stayed."""
    return min(
        (
            (line["boottime_s"], replica.name)
            for replica in stage.fleet.every()
            for line in replica.said("takes_office")
            if line["boottime_s"] > struck_at
        ),
        default=None,
    )


def _judged(three: Fleet, recorder: Recorder, watched: Watched) -> tuple[Violation, ...]:
    """What is wrong: at rest, with nothing due any more, and when all replicas have ended."""
    three.reconfigure(watched.config(jobs=()))
    three.until("all is done and served", _at_rest, timeout_s=_REST_TIMEOUT_S)
    bounds = Bounds(
        ttl_s=TTL_S,
        margin_s=_MARGIN_S,
        lateness_s=_LATENESS_S,
        stands_still_s=_STANDS_STILL_S,
        all_noted=True,
    )
    history = recorder.history(watched, at_rest=True)
    assert history.effects, "no job ran, so that nothing can be concluded"
    found = check(history, bounds)
    for replica in three.every():
        replica.terminate(within_s=20.0)
    after = check(recorder.history(watched, afterwards=True), bounds)
    known = {str(violation) for violation in found}
    return (*found, *(violation for violation in after if str(violation) not in known))


def _at_rest(view: View) -> bool:
    """Nothing is under way, and every replica serves what is in force."""
    if any(view.unfinished_runs(job) for job in view.specs) or view.staged():
        return False
    members: list[Member] = [stored.record for stored in view.members.values()]
    return all(
        served(view, member.replica, job) == stored.record.version
        for member in members
        for job, stored in view.pointers().items()
    )
