"""The fields of a crontab expression as sets of numbers: names, ranges, steps and ``H``.

The syntax is that of Debian's cron, and ``H`` is that of Jenkins. Two things that Debian accepts are
refused, because they cannot mean what was written: a range that runs backwards (never matches there)
and a step longer than its field (``*/90`` minutes fires hourly there).
"""

import hashlib
import re
from dataclasses import dataclass

from leaderjob.errors import InvalidSchedule


@dataclass(frozen=True, slots=True)
class Field:
    """One of the five: its range, the names of its values, and the highest value that ``H`` picks."""

    name: str
    low: int
    high: int
    spread_high: int
    names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many different values there are: 7 is Sunday once more."""
        return len(self.names) or self.high - self.low + 1

    @property
    def allowed(self) -> str:
        named = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"{self.low}-{self.high}{named}"


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

FIELDS = (
    Field("minute", 0, 59, 59),
    Field("hour", 0, 23, 23),
    Field("day-of-month", 1, 31, 28),  # H must exist in every month
    Field("month", 1, 12, 12, _MONTHS),
    Field("day-of-week", 0, 7, 6, _WEEKDAYS),
)

_TERM = re.compile(
    r"(?:(?P<star>\*)"
    r"|(?P<spread>H)(?:\((?P<spread_first>[0-9A-Za-z]+)-(?P<spread_last>[0-9A-Za-z]+)\))?"
    r"|(?P<first>[0-9A-Za-z]+)(?:-(?P<last>[0-9A-Za-z]+))?"
    r")(?:/(?P<step>[0-9]{1,4}))?"
)


def forwards(field: Field, first: str, last: str) -> str | None:
    """``FRI-MON``, which runs backwards, as ``FRI-SAT,SUN-MON``; None if it does not, or is no range of the field."""
    low, high = _number(field, first), _number(field, last)
    if low is None or high is None or low <= high:
        return None
    top = field.low + field.size - 1
    # Not '*' for all of it, which would change how days of the month and of the week combine.
    is_all = low == high + 1
    ranges = [(field.low, top)] if is_all else [(low, top)] * (low <= top) + [(field.low, high)]

    def named(value: int) -> str:
        if first.isdigit():
            return str(value)
        name = field.names[value - field.low]
        return name if first.islower() else name.upper()

    return ",".join(named(begin) if begin == end else f"{named(begin)}-{named(end)}" for begin, end in ranges)


def _number(field: Field, text: str) -> int | None:
    """The value that a number or a name stands for; None: the field has none like that."""
    if text.lower() in field.names:
        return field.low + field.names.index(text.lower())
    if not text.isascii() or not text.isdigit():
        return None
    return int(text) if field.low <= int(text) <= field.high else None


def parse_field(field: Field, text: str, job: str) -> frozenset[int]:
    """The values that ``text`` stands for. ``job`` is what ``H`` hashes.

    :raises InvalidSchedule: the message begins with the name of the field and its text.
    """
    reader = _Reader(field, text, job)
    return frozenset(value for term in text.split(",") for value in reader.term(term))


@dataclass(frozen=True, slots=True)
class _Reader:
    field: Field
    text: str
    job: str

    def term(self, term: str) -> range:
        match = _TERM.fullmatch(term)
        if match is None:
            problem = "is not a number, a name, a range (1-5), '*' or 'H', a step (*/15), or a list of those"
            raise self._refusal(term, problem)
        step = self._step(match["step"])
        if match["star"]:
            return range(self.field.low, self.field.high + 1, step or 1)
        if match["spread"]:
            first, last = self.field.low, self.field.spread_high
            if match["spread_first"]:
                first, last = self._range(match["spread_first"], match["spread_last"], in_spread=True)
            return self._spread(first, last, step)
        if match["last"]:
            first, last = self._range(match["first"], match["last"])
            return range(first, last + 1, step or 1)
        value = self._value(match["first"])
        if step:
            hint = f"write {value}-{self.field.high}/{step}"
            raise self._refusal(term, f"has a step but no range to step through: {hint}")
        return range(value, value + 1)

    def _value(self, value: str) -> int:
        number = _number(self.field, value)
        if number is None:
            raise self._refusal(value, f"is not in {self.field.allowed}")
        return number

    def _range(self, first: str, last: str, *, in_spread: bool = False) -> tuple[int, int]:
        low, high = self._value(first), self._value(last)
        if low > high:
            # H(...) takes one range, so what runs backwards cannot be split in two.
            hint = "" if in_spread else f": write {forwards(self.field, first, last)}"
            raise self._refusal(f"{first}-{last}", f"is a range that runs backwards{hint}")
        return low, high

    def _step(self, step: str | None) -> int | None:
        if step is None:
            return None
        if not 1 <= int(step) <= self.field.size:
            problem = f"is not a step of 1-{self.field.size}: steps begin anew in each round of the field"
            raise self._refusal(f"/{step}", problem)
        return int(step)

    def _spread(self, first: int, last: int, step: int | None) -> range:
        """The same values for a job on every replica and for ever, others for other jobs."""
        size = last - first + 1
        if step and step > size:
            raise self._refusal(f"/{step}", f"is a step longer than the range {first}-{last}")
        digest = hashlib.sha256(f"{self.job}\0{self.field.name}".encode()).digest()
        offset = int.from_bytes(digest[:8], "big") % (step or size)
        return range(first + offset, last + 1, step or size)

    def _refusal(self, part: str, problem: str) -> InvalidSchedule:
        where = "" if part == self.text else f": {part!r}"
        return InvalidSchedule(f"{self.field.name} field {self.text!r}{where} {problem}")
