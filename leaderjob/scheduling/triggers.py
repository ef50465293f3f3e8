"""Triggers: the rule behind a job's schedule, made of any number of expressions."""

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice, takewhile
from typing import Protocol

from leaderjob.durations import parse_duration_s
from leaderjob.errors import InvalidDuration, InvalidSchedule
from leaderjob.scheduling.crontab import parse_crontab
from leaderjob.scheduling.zones import SECOND, WallClock, load_zone

COUNT_LIMIT = 10_000
"""How many fires are counted one by one before a count is given up as "at least"."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_INTERVAL_S = 3650 * 86400
_EVERY = re.compile(r"every\s+(.*)", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


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

    Instants go in aware, and come out aware and in UTC. Without rules it never fires.
    """

    rules: tuple[Rule, ...] = ()

    def next_after(self, instant: datetime) -> datetime | None:
        """The first fire strictly later than ``instant``."""
        return next(self._after(instant), None)

    def latest(self, until: datetime) -> datetime | None:
        """The last fire not later than ``until``. As cheap for a long span as for a short one."""
        ends = (next(rule.until(until), None) for rule in self.rules)
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
                return Fires(self.next_after(after), last, interval.count(after, until))
        due = takewhile(lambda fire: fire <= until, self._after(after))
        counted = list(islice(due, limit + 1))
        return Fires(counted[0], last, min(len(counted), limit), exact=len(counted) <= limit)

    def _after(self, instant: datetime) -> Iterator[datetime]:
        merged = heapq.merge(*(rule.after(instant) for rule in self.rules))
        return (fire for fire, _ in groupby(merged))


def parse_schedule(expressions: Sequence[str], *, job: str, time_zone: str = "UTC") -> Trigger:
    """The trigger of a job.

    Each expression is a crontab (``*/15 * * * *``, ``@daily``, ``H 3 * * *``), an interval
    (``every 90s``) or one instant (ISO 8601; without an offset it is a wall time of ``time_zone``).

    :param job: the job's name: ``H`` derives its values from it, and errors name it.
    :param time_zone: a name of the IANA database.
    :raises InvalidSchedule: an expression or the time zone is wrong, or an expression never fires.
    """
    rules = []
    try:
        clock = WallClock(load_zone(time_zone))
    except InvalidSchedule as error:
        raise InvalidSchedule(f"schedule of job {job!r}: {error}") from error
    for expression in expressions:
        try:
            rules.append(_parse_rule(expression.strip(), job, clock))
        except (InvalidSchedule, InvalidDuration) as error:
            raise InvalidSchedule(f"schedule {expression!r} of job {job!r}: {error}") from error
    return Trigger(tuple(rules))


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
    if at.microsecond:
        raise InvalidSchedule("fires are whole seconds: leave the fraction away")
    if at.tzinfo is not None:
        return Moment(at.astimezone(UTC))
    if not clock.exists(at):
        raise InvalidSchedule(
            f"the clock of {clock.zone} skips that time: choose another, or write an offset"
        )
    return Moment(clock.instant(at))
