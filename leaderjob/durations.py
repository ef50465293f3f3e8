"""Durations as people write them: ``10`` (seconds), ``250ms``, ``10s``, ``5m``, ``2h``, ``1d``."""

import re

from leaderjob.errors import InvalidDuration

LONGEST_S = 36_500 * 86_400
"""A hundred years: no timer, deadline or date that is computed from a duration can overflow."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_PARTS = re.compile(rf"(?:{_PART.pattern})+")
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def parse_duration_s(text: str | float) -> float:
    """Seconds in ``text``. Units may be joined: ``1h30m``.

    :raises InvalidDuration: anything else, a negative number and more than a hundred years included.
    """
    seconds = _read(text) if isinstance(text, str) else text
    # Not a number fails every comparison, and so it fails this one.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_S:
        raise InvalidDuration(text)
    return float(seconds)


def _read(text: str) -> float | None:
    stripped = text.strip().lower()
    if _SECONDS.fullmatch(stripped):
        return float(stripped)
    if not _PARTS.fullmatch(stripped):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(stripped))


def format_duration(seconds: float) -> str:
    """A duration for people: ``850ms``, ``4.2s``, ``3m20s``, ``2h05m``, ``3d4h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest_s:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24}h"
