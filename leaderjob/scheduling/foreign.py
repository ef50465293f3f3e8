"""Schedules as other tools write them, and how to write them here.

Looked at only for what cannot be parsed. Each step below rewrites one thing that another tool knows; what comes of
all of them is offered if it can be parsed, so a hint is never wrong twice.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from leaderjob.durations import parse_duration_s
from leaderjob.errors import InvalidDuration
from leaderjob.scheduling.fields import FIELDS, Field, forwards

_COMMENT = re.compile(r"\s+#.*")
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S*)\s+(.*)")
_CALL = re.compile(r"(cron|rate)\((.*)\)", re.IGNORECASE)
_AT_EVERY = re.compile(r"@every\s+(.*)", re.IGNORECASE)
_ISO_PERIOD = re.compile(r"P(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?)?", re.IGNORECASE)
_UNIT = re.compile(
    r"([0-9]+(?:\.[0-9]+)?)\s*(seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|[smhdw])(?![a-z])",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::00)?")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_RANGE = re.compile(r"([0-9A-Za-z]+)-([0-9A-Za-z]+)")
_WORDS = {"hourly", "daily", "weekly", "monthly", "yearly", "annually", "midnight"}
_UNSUPPORTED = re.compile(r"[0-9]*L(?:W|-[0-9]+)?|[0-9]+W|\w+#[0-9]", re.IGNORECASE)
_FULL_NAMES = {
    name[:3]: re.compile(rf"\b{name[:3]}{name[3:]}\b", re.IGNORECASE)
    for name in (
        *(
            "sunday",
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "january",
            "february",
            "march",
        ),
        *("april", "june", "july", "august", "september", "october", "november", "december"),
    )
}


class Works(Protocol):
    """Whether an expression can be parsed, and whether the time zone is known."""

    def __call__(self, text: str, time_zone: str = "UTC") -> bool: ...


@dataclass(slots=True)
class _Draft:
    """An expression on its way from another tool's syntax to ours.

    :param notes: what else there is to do or to know.
    :param certain: whether it means the same here as there.
    """

    text: str
    works: Works
    certain: bool = True
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


def hint(expression: str, works: Works) -> str | None:
    """How to write ``expression`` here, as the end of a sentence; None if it is not known what it means."""
    draft = _Draft(expression.strip(), works)
    for rewrite in _STEPS:
        draft.text = rewrite(draft)
    is_usable = draft.certain and draft.text != expression.strip() and works(draft.text)
    return "; ".join([f"use {draft.text!r}"] * is_usable + draft.notes) or None


def _without_comment(draft: _Draft) -> str:
    text = _COMMENT.sub("", draft.text)
    if text != draft.text:
        draft.note("a schedule has no comment")
    return text


def _without_zone(draft: _Draft) -> str:
    """In front, as in ``CRON_TZ=Europe/Berlin 0 3 * * *``, or behind."""
    if match := _ZONE.fullmatch(draft.text):
        zone, text = match[1], match[2]
    else:
        text, _, zone = draft.text.rpartition(" ")
        if len(text.split()) < len(FIELDS) or "/" not in zone or not draft.works("@daily", zone):
            return draft.text
    if draft.works("@daily", zone):
        draft.note(f"set the job's time_zone to {zone!r}")
    else:
        draft.note("set the time zone by the job's time_zone, to a name of the IANA database")
    return text.strip()


def _unwrapped(draft: _Draft) -> str:
    """``cron(0 10 * * ? *)`` and ``rate(5 minutes)``, of AWS; its sixth field is the year."""
    match = _CALL.fullmatch(draft.text)
    if match is None:
        return draft.text
    if match[1].lower() == "rate":
        return f"every {match[2].strip()}"
    fields = match[2].split()
    return _without_year(draft, fields) if len(fields) == len(FIELDS) + 1 else " ".join(fields)


def _as_interval(draft: _Draft) -> str:
    """``@every 5m``, ``every 5 minutes``, ``PT5M``, ``5m``."""
    text = draft.text
    if match := _AT_EVERY.fullmatch(text):
        text = f"every {match[1]}"
        if not draft.works(text):
            draft.note("an interval is written as 'every 5m', in whole seconds")
    if (iso := _ISO_PERIOD.fullmatch(text)) and any(iso.groups()):
        units = zip(iso.groups(), "dhms", strict=True)
        return "every " + "".join(f"{number}{unit}" for number, unit in units if number)
    period = text[len("every ") :] if text.lower().startswith("every ") else text
    parts = _UNIT.findall(period)
    if not parts or _UNIT.sub("", period).strip(" ,"):
        return text
    weeks = {"w": ("d", 7.0)}
    seconds_s = 0.0
    for number, word in parts:
        unit, times = weeks.get(word[0].lower(), (word[0].lower(), 1.0))
        seconds_s += float(number) * times * parse_duration_s(f"1{unit}")
    joined = "".join(f"{number}{word[0].lower()}" for number, word in parts)
    if _is_duration(joined):
        return f"every {joined}"
    return f"every {seconds_s / 86_400:.0f}d" if seconds_s % 86_400 == 0 else text


def _is_duration(text: str) -> bool:
    try:
        parse_duration_s(text)
    except InvalidDuration:
        return False
    return True


def _as_nickname(draft: _Draft) -> str:
    """``hourly``, ``@Daily``, and the time of a day: ``03:30``."""
    word = draft.text.lower().removeprefix("@")
    if word in _WORDS:
        return f"@{word}"
    if word in ("every_minute", "minutely"):
        return "* * * * *"
    if match := _CLOCK.fullmatch(draft.text):
        return f"{int(match[2])} {int(match[1])} * * *"
    return draft.text


def _five_fields(draft: _Draft) -> str:
    """Without seconds in front, a year behind, or the command of a crontab's line."""
    fields = draft.text.split()
    count = len(FIELDS)
    if len(fields) <= count or draft.works(draft.text):
        return draft.text
    if draft.works(" ".join(fields[:count])) and not all(_is_field(text) for text in fields[count:]):
        draft.note("a schedule has no command: the job's function is what runs")
        return " ".join(fields[:count])
    is_quartz = "?" in (fields[2], fields[4]) and "?" not in (fields[3], fields[5])
    if len(fields) == count + 1 and (is_quartz or _YEAR.fullmatch(fields[count])):
        return _without_year(draft, fields)
    if len(fields) > count + 2:
        return draft.text
    if "?" in fields:
        _doubt_weekdays(draft, fields[count])
    rest = _without_year(draft, fields[1:]) if len(fields) == count + 2 else " ".join(fields[1:])
    return _without_seconds(draft, fields[0], rest)


def _without_seconds(draft: _Draft, seconds: str, rest: str) -> str:
    step = re.fullmatch(r"(?:\*|0)/([0-9]{1,2})", seconds)
    if all(text in "*?" for text in rest.split()) and (seconds == "*" or step):
        return f"every {step[1] if step else 1}s"
    if not seconds.strip("0"):
        draft.note("the first field is taken for seconds")
    else:
        draft.note("a crontab has no seconds: fires are at whole minutes, and 'every 10s' fires more often")
    return rest


def _without_year(draft: _Draft, fields: list[str]) -> str:
    if fields[-1] not in "*?":
        draft.note(
            "a crontab has no year: for a single fire, write an instant such as '2030-01-31T04:00+01:00'"
        )
    _doubt_weekdays(draft, fields[len(FIELDS) - 1])
    return " ".join(fields[: len(FIELDS)])


def _doubt_weekdays(draft: _Draft, weekdays: str) -> None:
    """Quartz and AWS count them from 1, which is Sunday; others that write ``?`` count as crontab does."""
    if draft.certain and any(
        character.isdigit() for character in weekdays.partition("/")[0].partition("#")[0]
    ):
        draft.certain = False
        draft.note("days of the week are numbered from 0 here, which is Sunday: better write their names")


def _is_field(text: str) -> bool:
    """Whether it is one in some dialect, and no command."""
    return text.lower() in FIELDS[-1].names or all(character in "0123456789*?/,-LW#" for character in text)


def _fields_rewritten(draft: _Draft) -> str:
    """``?`` for any day, full names of days and months, ranges that run backwards."""
    texts = draft.text.split()
    if len(texts) != len(FIELDS):
        return draft.text
    unsupported = [
        text for text in texts[2::2] if any(_UNSUPPORTED.fullmatch(one) for one in text.split(","))
    ]
    if unsupported:
        draft.note(
            "'L', 'W' and '#' (the last day, the nearest working day, the nth weekday) are not supported: "
            "fire on each day that it may be, and return at once on the others"
        )
    return " ".join(_rewritten(place, text) for place, text in zip(FIELDS, texts, strict=True))


def _rewritten(place: Field, text: str) -> str:
    if text == "?":
        return "*"
    for short, full in _FULL_NAMES.items():
        if short in place.names:
            text = full.sub(short, text)
    return ",".join(_forwards(place, term) for term in text.split(","))


def _forwards(place: Field, term: str) -> str:
    match = _RANGE.fullmatch(term)
    return forwards(place, match[1], match[2]) or term if match else term


_STEPS: tuple[Callable[[_Draft], str], ...] = (
    _without_comment,
    _without_zone,
    _unwrapped,
    _as_interval,
    _as_nickname,
    _five_fields,
    _fields_rewritten,
)
