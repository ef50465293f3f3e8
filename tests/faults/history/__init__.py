"""What happened, written down from outside, and whether it was allowed to.

::

    etcd ──watch from revision 1──► Recorder ─┐
    jobs ──effects (JSON lines)───────────────┼─► History ─► check(history, bounds) ─► [Violation, ...]
    replicas ──events (JSON logs)─────────────┘

A run under watch::

    watched = Watched(directory)                                  # where jobs and replicas leave their lines
    with Recorder(members.endpoints, namespace) as recorder:      # BEFORE the first replica starts
        for each replica, before it starts (jobs=JOBS, config=watched.config()):
            replica.settings |= watched.settings()                # JSON log, level debug
            watched.follow(replica.name, log=replica.log_path, state_dir=replica.state_dir)
        ... start them; break things, and say so:
        with recorder.noting(Intervention.OUTAGE): ...            # for what would look like a defect
        history = recorder.history(watched, at_rest=True)         # replicas run, and have nothing to do
        ... or, when all of them have ended: recorder.history(watched, afterwards=True)
    violations = check(history, Bounds(ttl_s=3, margin_s=0.75))
    assert not violations, "\\n".join(map(str, violations))

All processes run on one machine, so that ``CLOCK_BOOTTIME`` orders what they tell; what etcd committed is
ordered by revisions. The boot time of a change is that at which the recorder heard of it: never earlier than
the change. Rules that compare the two are written so that a slow recorder hides violations and makes up none.

The recorder speaks to etcd through its HTTP gateway, and not with the client that is under test. It can be led
to another member (:meth:`Recorder.switch`), and goes to the next one by itself where one is silent. Where history
was compacted before it was read there is a gap, and ``check`` reports it as a violation of ``unknown``: never
as fine.

``python -m tests.faults.history.defective --defect NAME -- run ...`` is a replica with a defect, which shows that
the checker can fail. May not live here: what breaks things, and claims about replicas.
"""

from tests.faults.history.checker import INVARIANTS, check
from tests.faults.history.effects import Effect, What
from tests.faults.history.past import Change, Gap, History, Interval, Intervention, Remains, Served
from tests.faults.history.recorder import Recorder
from tests.faults.history.told import Told
from tests.faults.history.violation import Bounds, Violation
from tests.faults.history.watched import JOBS, Watched

__all__ = [
    "INVARIANTS",
    "JOBS",
    "Bounds",
    "Change",
    "Effect",
    "Gap",
    "History",
    "Interval",
    "Intervention",
    "Recorder",
    "Remains",
    "Served",
    "Told",
    "Violation",
    "Watched",
    "What",
    "check",
]
