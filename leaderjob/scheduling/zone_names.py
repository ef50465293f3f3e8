"""Time zones by name: which names are accepted, and what to write instead of one that is not.

A name has to mean the same on every machine, or replicas would disagree about when a job is due. A hint names
a zone only if it is the same place or the same offset: a zone that merely looks similar is an hour off.
"""

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from leaderjob.errors import InvalidSchedule, shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
_LONGEST_CHARS = 100
_OF_THE_MACHINE = frozenset({"localtime", "posixrules", "Factory"})
_OFFSET = re.compile(
    r"(?P<prefix>Etc/GMT|Etc/UTC|UTC|GMT|UT|Z)?(?P<sign>[+-])(?P<hours>[0-9]{1,2})(?::?(?P<minutes>[0-5][0-9]))?"
)
_ONE_EDIT = 0.88
"""Similarity of two names that differ by a letter or two; other cities of the region are below it."""

_ABBREVIATIONS = {
    "ACDT": ("Australia/Adelaide",),
    "ACST": ("Australia/Adelaide", "Australia/Darwin"),
    "ADT": ("America/Halifax",),
    "AEDT": ("Australia/Sydney",),
    "AEST": ("Australia/Sydney", "Australia/Brisbane"),
    "AKDT": ("America/Anchorage",),
    "AKST": ("America/Anchorage",),
    "ART": ("America/Argentina/Buenos_Aires",),
    "AST": ("America/Halifax", "Asia/Riyadh"),
    "AWST": ("Australia/Perth",),
    "BRT": ("America/Sao_Paulo",),
    "BST": ("Europe/London", "Asia/Dhaka"),
    "CAT": ("Africa/Maputo",),
    "CDT": ("America/Chicago",),
    "CEST": ("Europe/Berlin",),
    "CLT": ("America/Santiago",),
    "COT": ("America/Bogota",),
    "CST": ("America/Chicago", "Asia/Shanghai"),
    "CT": ("America/Chicago",),
    "EAT": ("Africa/Nairobi",),
    "EDT": ("America/New_York",),
    "EEST": ("Europe/Helsinki",),
    "ET": ("America/New_York",),
    "GST": ("Asia/Dubai",),
    "HKT": ("Asia/Hong_Kong",),
    "ICT": ("Asia/Bangkok",),
    "IDT": ("Asia/Jerusalem",),
    "IST": ("Asia/Kolkata", "Asia/Jerusalem", "Europe/Dublin"),
    "JST": ("Asia/Tokyo",),
    "KST": ("Asia/Seoul",),
    "MDT": ("America/Denver",),
    "MESZ": ("Europe/Berlin",),
    "MEZ": ("Europe/Berlin",),
    "MSK": ("Europe/Moscow",),
    "MT": ("America/Denver",),
    "NDT": ("America/St_Johns",),
    "NPT": ("Asia/Kathmandu",),
    "NST": ("America/St_Johns",),
    "NZDT": ("Pacific/Auckland",),
    "NZST": ("Pacific/Auckland",),
    "PDT": ("America/Los_Angeles",),
    "PHT": ("Asia/Manila",),
    "PKT": ("Asia/Karachi",),
    "PST": ("America/Los_Angeles",),
    "PT": ("America/Los_Angeles",),
    "SAST": ("Africa/Johannesburg",),
    "SGT": ("Asia/Singapore",),
    "TRT": ("Europe/Istanbul",),
    "WAT": ("Africa/Lagos",),
    "WEST": ("Europe/Lisbon",),
    "WIB": ("Asia/Jakarta",),
    "Z": ("UTC",),
}
"""Those that are no zones of their own, as ``CET`` is one. The IANA database has them as what a clock shows."""

_PLACES_AT = {
    "+03:30": "Asia/Tehran",
    "+04:30": "Asia/Kabul",
    "+05:30": "Asia/Kolkata",
    "+05:45": "Asia/Kathmandu",
    "+06:30": "Asia/Yangon",
    "+08:45": "Australia/Eucla",
    "+09:30": "Australia/Darwin",
    "-09:30": "Pacific/Marquesas",
}
"""Where the offset is that all year; whole hours have zones of their own."""


def load_zone(name: str) -> tzinfo:
    """The time zone of that name in the IANA database.

    :raises InvalidSchedule: there is none, or it depends on the machine; the message names the right one, if known.
    """
    if name == "UTC":
        return UTC  # must work on machines without a time zone database
    _refuse_unusable(name)
    if len(name) <= _LONGEST_CHARS and _NAME.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            pass  # unknown, a file that is no zone, a directory
    raise InvalidSchedule(f"time zone {shown(name)} is unknown: {_hint(name)}")


def _refuse_unusable(name: str) -> None:
    """:raises InvalidSchedule: the database has the name, but it does not mean the same everywhere."""
    if name in _OF_THE_MACHINE:
        raise InvalidSchedule(
            f"time zone {name!r} depends on the machine, so replicas could disagree: "
            "name the zone, such as 'Europe/Berlin' or 'UTC'"
        )
    region, _, zone = name.partition("/")
    if region in ("right", "posix"):
        why = (
            "counts leap seconds, so its clock is about half a minute off civil time"
            if region == "right"
            else "is not on every machine"
        )
        better = repr(zone) if zone in _known().values() else "a name without that prefix"
        raise InvalidSchedule(f"time zone {shown(name)} {why}: use {better}")


def _hint(name: str) -> str:
    if not _known():
        return "this machine has no time zone database: install the package tzdata"
    plain = "_".join(name[:_LONGEST_CHARS].split())
    return next(_hints(plain), "use a name of the IANA database, such as 'Europe/Berlin'")


def _hints(plain: str) -> Iterator[str]:
    """The surest one first."""
    known, lower = _known(), plain.lower()
    if offset := _OFFSET.fullmatch(plain):
        yield _for_offset(offset)
    if zones := _ABBREVIATIONS.get(plain.upper()):
        yield f"it is an abbreviation; use {' or '.join(map(repr, zones))}"
    if same := known.get(lower):
        yield f"use {same!r}"
    if plain and (places := [zone for key, zone in known.items() if key.endswith(f"/{lower}")]):
        yield f"use {' or '.join(map(repr, places[:3]))}"
    if inside := [zone for zone in known.values() if zone.startswith(f"{plain}/")]:
        yield f"it is a region; add the city, such as {inside[0]!r}"
    near = difflib.get_close_matches(lower, known, n=1, cutoff=_ONE_EDIT)
    if near and _digits(near[0]) == _digits(plain):
        yield f"did you mean {known[near[0]]!r}?"


def _for_offset(match: re.Match[str]) -> str:
    """The names of Etc have the sign of POSIX: west is positive."""
    hours, minutes = int(match["hours"]), int(match["minutes"] or 0)
    is_posix = match["prefix"] == "Etc/GMT"
    is_east = (match["sign"] == "+") is not is_posix
    if hours == minutes == 0:
        return "use 'UTC'"
    sign = "+" if is_east else "-"
    if minutes:
        place = _PLACES_AT.get(f"{sign}{hours:02d}:{minutes:02d}")
        return (
            f"name a place with that offset, such as {place!r}" if place else "name a place with that offset"
        )
    if hours > (14 if is_east else 12):
        return (
            "no place has that offset: zones are from 'Etc/GMT+12' (behind UTC) to 'Etc/GMT-14' (ahead of it)"
        )
    direction = "ahead of" if is_east else "behind"
    return (
        f"use 'Etc/GMT{'-' if is_east else '+'}{hours}', which is {hours} h {direction} UTC "
        "(the sign in these names is reversed), or a place, which follows daylight saving time"
    )


def _digits(name: str) -> str:
    return "".join(character for character in name if character in "0123456789+-")


@lru_cache(maxsize=1)
def _known() -> dict[str, str]:
    """Every name that is accepted, by its lower-case form. Reads a few hundred files, for messages only."""
    return {name.lower(): name for name in sorted(available_timezones() - _OF_THE_MACHINE)}
