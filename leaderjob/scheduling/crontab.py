"""Crontab expressions, as Debian's cron(8) and crontab(5) understand them.

The calendar (which minutes of which days match) is cronsim's; where a zone's clock is set forward or
back, the rules of cron(8) are applied here, on top of a calendar that knows no zones:

- an expression whose minute or hour field begins with ``*`` follows real time: it does not fire in
  wall times that are skipped, and fires in both passes of wall times that come twice;
- any other one names wall times: skipped ones fire right after the gap, repeated ones fire once.

cronsim's own handling of zones is not used: it presumes changes of whole hours that do not happen at
midnight, and loses or invents fires in Australia/Lord_Howe and Africa/Cairo. Debian also says that a
change of more than three hours is a correction of the clock; the rules above are applied to it, too
(only a country that crosses the date line does that).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim, CronSimError

from leaderjob.errors import InvalidSchedule
from leaderjob.scheduling.fields import FIELDS, Field, parse_field
from leaderjob.scheduling.zones import SECOND, WallClock

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_ANY_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time


@dataclass(frozen=True, slots=True)
class Crontab:
    """The fires of one crontab expression.

    :param calendar: five fields in the dialect of cronsim, without names and ``H``.
    :param real_time: whether it follows real time where the clock is set (see above).
    """

    calendar: str
    real_time: bool
    clock: WallClock

    def after(self, instant: datetime) -> Iterator[datetime]:
        """The fires strictly later than ``instant``, ascending, in UTC."""
        return self._in_real_time(instant, 1) if self.real_time else self._at_wall_times(instant, 1)

    def until(self, instant: datetime) -> Iterator[datetime]:
        """The fires not later than ``instant``, descending, in UTC."""
        return self._in_real_time(instant, -1) if self.real_time else self._at_wall_times(instant, -1)

    def _in_real_time(self, instant: datetime, sign: int) -> Iterator[datetime]:
        """Walk from one change of the offset to the next; in between, the calendar is right as it is."""
        step = sign * SECOND
        at = instant.astimezone(UTC).replace(microsecond=0)
        if sign > 0:
            at += SECOND
        while True:
            offset = self.clock.offset(at)
            start = (at + offset).replace(tzinfo=None)
            for wall in CronSim(self.calendar, start - step, reverse=sign < 0):
                # Until a change of the offset repeats wall times that were passed, the calendar need not begin anew:
                # for a fire that is decades away, it would do so twice a year.
                while True:
                    fire = (wall - offset).replace(tzinfo=UTC)
                    edge = self.clock.same_offset_until(at, fire)
                    if edge == fire:
                        break
                    at = edge + step
                    offset = self.clock.offset(at)
                    here = (at + offset).replace(tzinfo=None)
                    if sign * (here - start) < timedelta() or sign * (wall - here) < timedelta():
                        break
                if edge != fire:
                    break
                yield fire
                at, start = fire, wall + step
            else:
                return

    def _at_wall_times(self, instant: datetime, sign: int) -> Iterator[datetime]:
        start = self.clock.wall(instant).replace(microsecond=0)
        if sign < 0:
            # In the second pass of a fold, all of the first pass is past: also what the clock has yet
            # to show again.
            start += self.clock.repeats(instant) + SECOND
        previous = None
        for wall in CronSim(self.calendar, start, reverse=sign < 0):
            fire = self.clock.instant(wall)
            # Several wall times of one gap are the same instant: its end.
            if fire != previous and (fire > instant if sign > 0 else fire <= instant):
                yield fire
            previous = fire


def parse_crontab(expression: str, *, job: str, zone: tzinfo) -> Crontab:
    """Five fields, or ``@daily`` and the like, read in the time zone ``zone``.

    :param job: the job's name, from which ``H`` derives its values.
    :raises InvalidSchedule: the message names the field and the wrong value.
    """
    texts = _expand_nickname(expression).split()
    if len(texts) != len(FIELDS):
        names = ", ".join(field.name for field in FIELDS)
        raise InvalidSchedule(f"it has {len(texts)} fields: a crontab has five ({names})")
    calendar = " ".join(_for_cronsim(field, text, job) for field, text in zip(FIELDS, texts, strict=True))
    try:
        next(CronSim(calendar, _ANY_DAY))
    except (CronSimError, StopIteration) as error:
        raise InvalidSchedule(
            f"it never fires: day-of-month field {texts[2]!r} names no day of month field {texts[3]!r}"
        ) from error
    return Crontab(calendar, texts[0].startswith("*") or texts[1].startswith("*"), WallClock(zone))


def _expand_nickname(expression: str) -> str:
    if not expression.startswith("@"):
        return expression
    if expression == "@reboot":
        raise InvalidSchedule("a cluster has no boot: trigger the job instead, or give it a time")
    if expression not in NICKNAMES:
        raise InvalidSchedule(f"it is not one of {', '.join(NICKNAMES)}")
    return NICKNAMES[expression]


def _for_cronsim(field: Field, text: str, job: str) -> str:
    """Plain numbers, as cronsim reads ``5-5/2`` as ``5-59/2``, and has no ``H``.

    A leading ``*`` must stay: it makes the days of month and week AND. Any field that begins with it
    contains its lowest value, so ``*/99``, which is just that value, changes nothing else.
    """
    values = parse_field(field, text, job)
    if text == "*":
        return text
    numbers = ",".join(str(value) for value in sorted(values))
    return f"*/99,{numbers}" if text.startswith("*") else numbers
