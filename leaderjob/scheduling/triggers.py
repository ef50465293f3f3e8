"""Triggers: the rule behind a job's schedule, made of any number of expressions."""

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice, takewhile
from typing import Protocol

from leaderjob.durations import parse_duration_s
from leaderjob.errors import InvalidDuration, InvalidSchedule, shown
from leaderjob.scheduling.crontab import parse_crontab
from leaderjob.scheduling.foreign import hint
from leaderjob.scheduling.zone_names import load_zone
from leaderjob.scheduling.zones import SECOND, WallClock

COUNT_LIMIT = 10_000
"""How many fires are counted one by one before a count is given up as "at least"."""

MAX_EXPRESSIONS = 100
"""Of one job: parsing them all, and looking each of them up at every fire, stays a matter of milliseconds."""

MAX_EXPRESSION_CHARS = 500
"""A crontab that lists every value of every field has 390."""

FIRST, LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
"""Fires are between these. ``datetime`` ends two days later, so that each of them has a wall time in every zone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_INTERVAL_S = 3650 * 86400
_EVERY = re.compile(r"every\s+(.*)", re.IGNORECASE)
_OUT_OF_RANGE = f"it is out of range: instants are from {FIRST.date()} to {LAST.date()}"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Rule(Protocol):
    """What one expression stands for. Instants are aware, in UTC, and whole seconds."""

    def after(self, instant: datetime) -> Iterator[datetime]:
        """The fires strictly later than ``instant``, ascending."""
        ...

    def until(self, instant: datetime) -> Iterator[datetime]:
        """The fires not later than ``instant``, descending."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """``every 90s``: the multiples of a period since the Unix epoch, so that all replicas agree."""

    period_s: int

    def after(self, instant: datetime) -> Iterator[datetime]:
        return self._from(self._index(instant) + 1, 1)

    def until(self, instant: datetime) -> Iterator[datetime]:
        return self._from(self._index(instant), -1)

    def count(self, after: datetime, until: datetime) -> int:
        """How many fires are later than ``after`` and not later than ``until``."""
        return max(0, self._index(until) - self._index(after))

    def _index(self, instant: datetime) -> int:
        return (instant - _EPOCH) // SECOND // self.period_s

    def _from(self, index: int, sign: int) -> Iterator[datetime]:
        while True:
            yield _EPOCH + timedelta(seconds=index * self.period_s)
            index += sign


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant: fires once."""

    at: datetime

    def after(self, instant: datetime) -> Iterator[datetime]:
        return iter((self.at,) if self.at > instant else ())

    def until(self, instant: datetime) -> Iterator[datetime]:
        return iter((self.at,) if self.at <= instant else ())


@dataclass(frozen=True, slots=True)
class Fires:
    """The fires in a span of time. ``first`` and ``last`` are exact, and None if there are none.

    ``count`` is a lower bound where ``exact`` is false.
    """

    first: datetime | None = None
    last: datetime | None = None
    count: int = 0
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Trigger:
    """The fires of a job's schedule: those of all its rules, equal instants once.

    Instants go in aware, and come out aware and in UTC. Without rules it never fires. Any instant will do: there
    are no fires before :data:`FIRST` or after :data:`LAST`.
    """

    rules: tuple[Rule, ...] = ()

    def next_after(self, instant: datetime) -> datetime | None:
        """The first fire strictly later than ``instant``."""
        return next(self._after(instant), None)

    def latest(self, until: datetime) -> datetime | None:
        """The last fire not later than ``until``. As cheap for a long span as for a short one."""
        if until < FIRST:
            return None
        end = min(until, LAST)
        ends = (next(_in_range(rule.until(end)), None) for rule in self.rules)
        return max((end for end in ends if end is not None), default=None)

    def between(self, after: datetime, until: datetime, limit: int = COUNT_LIMIT) -> Fires:
        """The fires later than ``after`` and not later than ``until``.

        Counting stops at ``limit``, except for a single interval, which is arithmetic.
        """
        last = self.latest(until)
        if last is None or last <= after:
            return Fires()
        match self.rules:
            case (Interval() as interval,):
                count = interval.count(max(after, FIRST - SECOND), min(until, LAST))
                return Fires(self.next_after(after), last, count)
        due = takewhile(lambda fire: fire <= until, self._after(after))
        counted = list(islice(due, limit + 1))
        return Fires(counted[0], last, min(len(counted), limit), exact=len(counted) <= limit)

    def _after(self, instant: datetime) -> Iterator[datetime]:
        if instant >= LAST:
            return iter(())
        start = max(instant, FIRST - SECOND)
        merged = heapq.merge(*(_in_range(rule.after(start)) for rule in self.rules))
        return (fire for fire, _ in groupby(merged))


def _in_range(fires: Iterator[datetime]) -> Iterator[datetime]:
    """Those up to the first one that is out of range, or that ``datetime`` cannot express."""
    try:
        for fire in fires:
            if not FIRST <= fire <= LAST:
                return
            yield fire
    except OverflowError:
        return


def parse_schedule(expressions: Sequence[str], *, job: str, time_zone: str = "UTC") -> Trigger:
    """The trigger of a job.

    Each expression is a crontab (``*/15 * * * *``, ``@daily``, ``H 3 * * *``), an interval
    (``every 90s``) or one instant (ISO 8601; without an offset it is a wall time of ``time_zone``).

    :param job: the job's name: ``H`` derives its values from it, and errors name it.
    :param time_zone: a name of the IANA database.
    :raises InvalidSchedule: an expression or the time zone is wrong, or an expression never fires.
    """
    if len(expressions) > MAX_EXPRESSIONS:
        raise InvalidSchedule(
            f"schedule of job {job!r}: it has {len(expressions)} expressions, and at most {MAX_EXPRESSIONS} are allowed"
        )
    try:
        clock = WallClock(load_zone(time_zone))
    except InvalidSchedule as error:
        raise InvalidSchedule(f"schedule of job {job!r}: {error}") from error
    return Trigger(tuple(_parse_or_explain(expression, job, clock) for expression in expressions))


def _parse_or_explain(expression: str, job: str, clock: WallClock) -> Rule:
    where = f"schedule {shown(expression)} of job {job!r}"
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise InvalidSchedule(
            f"{where}: it has {len(expression)} characters, and at most {MAX_EXPRESSION_CHARS} are allowed"
        )
    try:
        return _parse_rule(expression.strip(), job, clock)
    except (InvalidSchedule, InvalidDuration) as error:
        found = hint(expression, works)
        raise InvalidSchedule(f"{where}: {error}{'; ' + found if found else ''}") from error


def works(text: str, time_zone: str = "UTC") -> bool:
    """Whether ``text`` is a schedule."""
    try:
        _parse_rule(text, "any", WallClock(load_zone(time_zone)))
    except (InvalidSchedule, InvalidDuration):
        return False
    return True


def _parse_rule(expression: str, job: str, clock: WallClock) -> Rule:
    if every := _EVERY.fullmatch(expression):
        return _parse_interval(every[1])
    if _DATE.match(expression):
        return _parse_moment(expression, clock)
    if expression.startswith("@") or len(expression.split()) > 1:
        return parse_crontab(expression, job=job, zone=clock.zone)
    raise InvalidSchedule(
        "it is neither a crontab of five fields, nor a nickname such as '@daily', "
        "nor an interval such as 'every 90s', nor an instant such as '2030-01-31T04:00+01:00'"
    )


def _parse_interval(duration: str) -> Interval:
    period_s = parse_duration_s(duration)
    if period_s != int(period_s) or not 1 <= period_s <= _MAX_INTERVAL_S:
        raise InvalidSchedule(f"{duration!r} is not an interval: use whole seconds, from 1s to 3650d")
    return Interval(int(period_s))


def _parse_moment(text: str, clock: WallClock) -> Moment:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidSchedule(
            f"it is not an ISO 8601 instant, such as '2030-01-31T04:00+01:00' ({error})"
        ) from error
    if at.tzinfo is None and at.year in (FIRST.year, LAST.year):
        raise InvalidSchedule(_OUT_OF_RANGE)  # it may have no instant in this zone
    if at.tzinfo is None and not clock.exists(at):
        raise InvalidSchedule(
            f"the clock of {clock.zone} skips that time: choose another, or write an offset"
        )
    try:
        instant = clock.instant(at) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError as error:
        raise InvalidSchedule(_OUT_OF_RANGE) from error
    if not FIRST <= instant <= LAST:
        raise InvalidSchedule(_OUT_OF_RANGE)
    if instant.microsecond:
        raise InvalidSchedule("fires are whole seconds: leave the fraction away")
    return Moment(instant)
