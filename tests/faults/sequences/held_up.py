"""A leader that is held up: its event loop alone, or all of it in the moment before a worker begins."""

import os
import signal
import time

from tests.faults.harness.children import guards_of, send
from tests.faults.harness.replicas import MachineReplica
from tests.faults.sequences.stage import Heal, Stage

_ADMITTED, _STARTED = "run_admitted", "run_started"
_WAIT_S = 3.0
"""A run is admitted each second, unless another fault keeps the leader from it."""


def loop_stalled(stage: Stage) -> Heal:
    """It reads, writes and decides nothing; what does not need the loop goes on."""
    leader = stage.leader
    leader.stall.begin(leader.pid)
    return leader.stall.end


def stopped_before_a_worker_begins(stage: Stage) -> Heal:
    """The ledger has a run, and no instruction of it was carried out: a worker takes a tenth of a second to come up."""
    leader = stage.leader
    _wait_until_it_says(leader, stage.dice.choice((_ADMITTED, _STARTED)))
    leader.send(signal.SIGSTOP)

    def heal() -> None:
        if leader.runs:
            leader.send(signal.SIGCONT)

    return heal


def guards_stopped_before_a_worker_begins(stage: Stage) -> Heal:
    leader = stage.leader
    _wait_until_it_says(leader, _STARTED)
    found = guards_of(leader.pid)
    send(found, signal.SIGSTOP)
    return lambda: send(found, signal.SIGCONT)


def _wait_until_it_says(leader: MachineReplica, event: str) -> None:
    """Return at the next event of that name; or without one, where another fault has silenced the leader."""
    give_up_at = time.monotonic() + _WAIT_S
    with leader.log_path.open() as log:
        log.seek(0, os.SEEK_END)
        while time.monotonic() < give_up_at:
            line = log.readline()
            if f'"event": "{event}"' in line:
                return
            if not line:
                time.sleep(0.001)
