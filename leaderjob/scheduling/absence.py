"""When somebody led without a job, and what that makes of the fires in that time."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from leaderjob.model.run import FireRange
from leaderjob.scheduling.triggers import Trigger

NOBODY_LED = "nobody led or the leader was held up"
NO_REPLICA_HAD_IT = "no replica had this job"


@dataclass(frozen=True, slots=True)
class Absence:
    """A leader did not have the job after ``since`` and until ``until``.

    :param elsewhere: when another live replica came to have it, and when none had it any more, in turn.
    """

    since: datetime
    until: datetime
    leader: str
    elsewhere: tuple[datetime, ...] = ()

    def why(self, instant: datetime) -> str | None:
        """Why the job did not run at that instant; None: not because of this."""
        if not self.since < instant <= self.until:
            return None
        if bisect_left(self.elsewhere, instant) % 2 == 1:
            return f"the leader, {self.leader}, did not have this job"
        return NO_REPLICA_HAD_IT


@dataclass(frozen=True, slots=True)
class Missed:
    """Fires in a row that did not run for one reason."""

    fires: FireRange
    why: str


def missed_between(
    trigger: Trigger, after: datetime, until: datetime, absences: Sequence[Absence] = ()
) -> Iterator[Missed]:
    """The fires later than ``after`` and not later than ``until``, in ranges with one reason each."""
    cuts = {until}
    for absence in absences:
        cuts |= {absence.since, absence.until, *absence.elsewhere}
    pending: Missed | None = None
    start = after
    for end in sorted(cut for cut in cuts if after < cut <= until):
        fires = trigger.between(start, end)
        start = end
        if fires.first is None or fires.last is None:
            continue
        first = fires.first
        why = next((why for absence in absences if (why := absence.why(first)) is not None), NOBODY_LED)
        found = FireRange(first=first, last=fires.last, count=fires.count, exact=fires.exact)
        if pending is not None and pending.why == why:
            pending = Missed(_joined(pending.fires, found), why)
            continue
        if pending is not None:
            yield pending
        pending = Missed(found, why)
    if pending is not None:
        yield pending


def _joined(one: FireRange, next_one: FireRange) -> FireRange:
    return FireRange(
        first=one.first,
        last=next_one.last,
        count=one.count + next_one.count,
        exact=one.exact and next_one.exact,
    )
