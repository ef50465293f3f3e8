"""What becomes of the fires that are due: misfire, coalescing and overlap, as a pure function.

The ledger holds a watermark, the last fire that was accounted for. Whatever is due after it, be it one
fire a moment ago or a thousand while nobody led, is accounted for exactly once by one plan: one fire
may be admitted, the others are refused with a reason, and the watermark moves past them all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from leaderjob.durations import format_duration
from leaderjob.model.run import FireRange, Outcome
from leaderjob.scheduling.absence import NOBODY_LED, Absence, missed_between
from leaderjob.scheduling.triggers import Trigger

_RESOLUTION = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Fires that will not run, how they end in the ledger, and why: a sentence, and a word to count by."""

    fires: FireRange
    outcome: Outcome
    reason: str
    code: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write in one transaction.

    :param watermark: the last fire accounted for; never lower than before.
    :param next_fire: when to look again; None if the schedule is over.
    :param admit: the fire that becomes a run, if any.
    :param refused: the other due fires, in the order of time.
    """

    watermark: datetime
    next_fire: datetime | None
    admit: datetime | None
    refused: tuple[Refusal, ...]


def plan(
    trigger: Trigger,
    *,
    watermark: datetime,
    now: datetime,
    misfire_grace_s: float,
    active_run: str | None,
    absences: Sequence[Absence] = (),
) -> Plan:
    """Decide on the fires later than ``watermark`` and not later than ``now``.

    Coalescing keeps the latest fire, overlap is ``forbid``. A clock that was set back finds nothing
    due. A job that is new, or whose schedule changed, starts with the present as its watermark.

    :param misfire_grace_s: how late a fire may be admitted, in seconds.
    :param active_run: the id of the job's unfinished run, if there is one.
    :param absences: when somebody led without the job: the reason of what is missed in that time.
    """
    latest = trigger.latest(now)
    if latest is None or latest <= watermark:
        return Plan(watermark, trigger.next_after(max(watermark, now)), admit=None, refused=())
    next_fire = trigger.next_after(now)
    late_s = (now - latest).total_seconds()
    if late_s > misfire_grace_s:
        refused = tuple(
            _too_late(trigger, watermark, latest, now=now, misfire_grace_s=misfire_grace_s, absences=absences)
        )
        return Plan(latest, next_fire, admit=None, refused=refused)
    refused = tuple(_coalesced(trigger, watermark, latest, absences))
    if active_run is None:
        return Plan(latest, next_fire, admit=latest, refused=refused)
    return Plan(latest, next_fire, admit=None, refused=(*refused, _overlapping(latest, active_run)))


def _too_late(
    trigger: Trigger,
    watermark: datetime,
    latest: datetime,
    *,
    now: datetime,
    misfire_grace_s: float,
    absences: Sequence[Absence],
) -> Iterator[Refusal]:
    for missed in missed_between(trigger, watermark, latest, absences):
        late_s = (now - missed.fires.last).total_seconds()
        reason = (
            f"older than the misfire grace of {format_duration(misfire_grace_s)}: "
            f"{format_duration(late_s)} late at best, as {missed.why} when due"
        )
        yield Refusal(missed.fires, Outcome.MISSED, reason, _code(missed.why, "misfire"))


def _coalesced(
    trigger: Trigger, watermark: datetime, latest: datetime, absences: Sequence[Absence]
) -> Iterator[Refusal]:
    for missed in missed_between(trigger, watermark, latest - _RESOLUTION, absences):
        reason = f"due while {missed.why}, and coalesced into the latest fire, {latest.isoformat()}"
        yield Refusal(missed.fires, Outcome.MISSED, reason, _code(missed.why, "coalesced"))


def _code(why: str, otherwise: str) -> str:
    return otherwise if why == NOBODY_LED else "no_job"


def _overlapping(latest: datetime, active_run: str) -> Refusal:
    fires = FireRange(first=latest, last=latest, count=1)
    reason = f"run {active_run} was still active, and overlap is 'forbid'"
    return Refusal(fires, Outcome.SKIPPED, reason, "overlap")
