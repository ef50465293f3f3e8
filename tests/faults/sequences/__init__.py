"""Random faults, one after the other and sometimes two at a time, against three replicas and three members of etcd.

::

    python -m tests.faults.sequences --seed 7 --faults 20 [--etcd 3.6]

What is drawn follows from the seed alone (``draw.py``), so that a sequence can be played again; how exactly the
faults meet what the replicas are about to do is up to the machine. ``faults.py`` has the faults (``upkeep.py`` those
of a store that operators look after, or do not), ``play.py`` plays a sequence on a cluster of its own and has the
checker look at what happened, ``report.py`` tells it.

May not live here: what must be true of a history. That is in ``tests/faults/history/``.
"""

from tests.faults.sequences.draw import Step, draw
from tests.faults.sequences.faults import FAULTS, Fault, possible
from tests.faults.sequences.play import Played, Struck, play

__all__ = ["FAULTS", "Fault", "Played", "Step", "Struck", "draw", "play", "possible"]
