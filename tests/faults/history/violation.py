"""What the checker says, and what it takes for granted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Bounds:
    """The times that the replicas were set to, in seconds, and how exactly they can be held to them.

    :param margin_s: how much earlier than the lease a leader's trust ends (setting ``election.margin``).
    :param acting_within_s: how long there may be no acting leader while one is possible (I11); None: the TTL, and
        what follows it: the expiry that etcd looks for twice a second, and the steps of a takeover.
    :param lateness_s: how late a process may do what a clock tells it to, on a busy machine. What is killed at
        a deadline leaves no line later than so long after it.
    :param stands_still_s: how long a fire that is due may go unaccounted for, and a run that may begin may not do so,
        under a leader that is well (I10): enough for a slow machine.
    :param all_noted: all that was done to replicas is in the history's interventions: then a leader gives up office
        only where it was asked to, or because of one of these (I13).
    :param healthy: nothing was broken, and no process was killed or stopped: then office changes hands only where
        its holder gave it up (I13).
    """

    ttl_s: float
    margin_s: float
    acting_within_s: float | None = None
    lateness_s: float = 0.3
    stands_still_s: float = 5.0
    all_noted: bool = False
    healthy: bool = False

    @property
    def acting_bound_s(self) -> float:
        return self.ttl_s + 2.5 if self.acting_within_s is None else self.acting_within_s


@dataclass(frozen=True, slots=True)
class Violation:
    """One invariant that does not hold.

    :param invariant: ``I1`` to ``I13``, or ``unknown``: the history is not complete enough to tell.
    :param sentence: what happened, for people.
    :param evidence: revisions, boot times in seconds, process ids: by name.
    """

    invariant: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.evidence.items())
        return f"{self.invariant}: {self.sentence}" + (f" ({facts})" if facts else "")
