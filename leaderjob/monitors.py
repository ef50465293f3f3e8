"""Which monitors Sentry Crons gets: a job's schedule, its time zone and its tolerances, in Sentry's terms."""

import hashlib
import math
import re
from collections.abc import Iterable
from typing import Any

from leaderjob.engine.definition import Assignment
from leaderjob.model.job import JobSpec
from leaderjob.scheduling.crontab import NICKNAMES, Crontab
from leaderjob.scheduling.triggers import Interval, Trigger
from leaderjob.telemetry.sentry.checkins import Monitor

_SLUG_LIMIT_CHARS = 50
_MINUTE_S = 60
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", _MINUTE_S))
_LONGEST_MINUTES = 28 * 24 * 60
_SPREAD = re.compile(r"\bH\b")


def monitors_of(assignments: Iterable[Assignment], namespace: str) -> dict[str, Monitor]:
    """The monitors, by job. Jobs whose schedule Sentry cannot express have none."""
    found = {}
    for assignment in assignments:
        spec = assignment.spec
        schedule = _schedule(spec, assignment.trigger)
        if schedule is not None:
            config = {
                "schedule": schedule,
                "timezone": spec.time_zone,
                "checkin_margin": _minutes(spec.policy.misfire_grace_s),
                # The job's own timeout comes first, and the end of the run is told with its reason.
                "max_runtime": _minutes(spec.policy.timeout_s, and_minutes=1),
            }
            found[spec.name] = Monitor(_slug(f"{namespace}-{spec.name}"), config)
    return found


def _schedule(spec: JobSpec, trigger: Trigger) -> dict[str, Any] | None:
    """One crontab, or one interval of whole minutes: a monitor knows nothing else."""
    match trigger.rules:
        case (Crontab() as crontab,):
            return {"type": "crontab", "value": _plain(spec.schedule[0].strip(), crontab)}
        case (Interval(period_s),):
            for unit, size_s in _UNITS:
                if period_s % size_s == 0:
                    return {"type": "interval", "value": period_s // size_s, "unit": unit}
    return None


def _plain(expression: str, crontab: Crontab) -> str:
    """What Sentry reads as we do: with five fields, and numbers where it knows no ``H``, or steps through more
    than we do (``5-5/2``)."""
    fields = NICKNAMES.get(expression, expression).split()
    return " ".join(
        numbers if _SPREAD.search(text) or ("/" in text and not text.startswith("*")) else text
        for text, numbers in zip(fields, crontab.calendar.split(), strict=True)
    )


def _minutes(seconds: float, *, and_minutes: int = 0) -> int:
    """Rounded up. Sentry refuses a monitor that has less than one minute, or more than 28 days."""
    minutes = math.ceil(min(seconds / _MINUTE_S, _LONGEST_MINUTES)) + and_minutes
    return min(max(1, minutes), _LONGEST_MINUTES)


def _slug(name: str) -> str:
    """Letters, digits, ``-`` and ``_``, at most 50. What had to be changed ends with a digest of all of it."""
    slug = name.replace(".", "-")
    if slug == name and len(slug) <= _SLUG_LIMIT_CHARS:
        return slug
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{slug[: _SLUG_LIMIT_CHARS - len(digest) - 1]}-{digest}"
