"""From the clock on the wall to real time, and back.

Real time is UTC. A zone's clock is real time plus an offset; where the offset changes, some wall
times are skipped (a gap) and some come twice (a fold). ``zoneinfo`` tells the offset at an instant,
but not when it changes next: that is searched for here.
"""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class WallClock:
    """The clock of a time zone. Wall times are naive, instants are aware and in UTC."""

    zone: tzinfo

    def offset(self, instant: datetime) -> timedelta:
        """What to add to UTC at ``instant`` to get the wall time."""
        offset = instant.astimezone(self.zone).utcoffset()
        return timedelta() if offset is None else offset

    def wall(self, instant: datetime) -> datetime:
        """What the clock shows at ``instant``."""
        return instant.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def exists(self, wall: datetime) -> bool:
        """Whether the clock ever shows ``wall``: not if that is in a gap."""
        return self.wall(wall.replace(tzinfo=self.zone).astimezone(UTC)) == wall

    def instant(self, wall: datetime) -> datetime:
        """When the clock shows ``wall``: the first time in a fold, the end of the gap in a gap."""
        local = wall.replace(tzinfo=self.zone, fold=0)
        instant = local.astimezone(UTC)
        if self.wall(instant) == wall:
            return instant
        # In a gap, fold=0 reads the wall time with the offset before it (an instant after the gap),
        # fold=1 with the offset after it (an instant before the gap): PEP 495.
        return self.same_offset_until(local.replace(fold=1).astimezone(UTC), instant) + SECOND

    def repeats(self, instant: datetime) -> timedelta:
        """In the second pass of a fold: how much is repeated. Nothing at any other instant."""
        local = instant.astimezone(self.zone)
        first, second = local.replace(fold=0).utcoffset(), local.utcoffset()
        return timedelta() if first is None or second is None else first - second

    def same_offset_until(self, origin: datetime, goal: datetime) -> datetime:
        """The last second, on the way from ``origin`` to ``goal``, with the same offset as ``origin``.

        Both are whole seconds, in either order. The search goes day by day: two ends with the same
        offset say nothing about the months in between.
        """
        if self.zone is UTC:
            return goal
        offset = self.offset(origin)
        sign = 1 if goal >= origin else -1
        here = origin
        while here != goal:
            there = goal if abs(goal - here) <= _DAY else here + sign * _DAY
            if self.offset(there) != offset:
                return here + sign * SECOND * (self._seconds_to_change(here, there) - 1)
            here = there
        return goal

    def _seconds_to_change(self, here: datetime, there: datetime) -> int:
        offset = self.offset(here)
        step = SECOND if there >= here else -SECOND
        seconds = range(abs(there - here) // SECOND + 1)
        return bisect_left(seconds, True, key=lambda second: self.offset(here + second * step) != offset)
