"""What becomes of the fires that are due: misfire, coalescing and overlap, as a pure function.

The ledger holds a watermark, the last fire that was accounted for. Whatever is due after it, be it one
fire a moment ago or a thousand while nobody led, is accounted for exactly once by one plan: one fire
may be admitted, the others are refused with a reason, and the watermark moves past them all.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from leaderjob.durations import format_duration
from leaderjob.model.run import FireRange, Outcome
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
    trigger: Trigger, *, watermark: datetime, now: datetime, misfire_grace_s: float, active_run: str | None
) -> Plan:
    """Decide on the fires later than ``watermark`` and not later than ``now``.

    Coalescing keeps the latest fire, overlap is ``forbid``. A clock that was set back finds nothing
    due. A job that is new, or whose schedule changed, starts with the present as its watermark.

    :param misfire_grace_s: how late a fire may be admitted, in seconds.
    :param active_run: the id of the job's unfinished run, if there is one.
    """
    latest = trigger.latest(now)
    if latest is None or latest <= watermark:
        return Plan(watermark, trigger.next_after(max(watermark, now)), admit=None, refused=())
    next_fire = trigger.next_after(now)
    earlier = _fires_before(trigger, watermark, latest)
    late_s = (now - latest).total_seconds()
    if late_s > misfire_grace_s:
        refusal = _older_than_the_grace(earlier, latest, late_s, misfire_grace_s)
        return Plan(latest, next_fire, admit=None, refused=(refusal,))
    refused = () if earlier is None else (_coalesced(earlier, latest),)
    if active_run is None:
        return Plan(latest, next_fire, admit=latest, refused=refused)
    return Plan(latest, next_fire, admit=None, refused=(*refused, _overlapping(latest, active_run)))


def _fires_before(trigger: Trigger, watermark: datetime, latest: datetime) -> FireRange | None:
    fires = trigger.between(watermark, latest - _RESOLUTION)
    if fires.first is None or fires.last is None:
        return None
    return FireRange(first=fires.first, last=fires.last, count=fires.count, exact=fires.exact)


def _older_than_the_grace(
    earlier: FireRange | None, latest: datetime, late_s: float, misfire_grace_s: float
) -> Refusal:
    if earlier is None:
        fires = FireRange(first=latest, last=latest, count=1)
    else:
        fires = FireRange(first=earlier.first, last=latest, count=earlier.count + 1, exact=earlier.exact)
    reason = (
        f"older than the misfire grace of {format_duration(misfire_grace_s)}: "
        f"{format_duration(late_s)} late at best, as nobody led when due or the leader was held up"
    )
    return Refusal(fires, Outcome.MISSED, reason, "misfire")


def _coalesced(earlier: FireRange, latest: datetime) -> Refusal:
    reason = f"due while nobody led or the leader was held up, and coalesced into the latest fire, {latest.isoformat()}"
    return Refusal(earlier, Outcome.MISSED, reason, "coalesced")


def _overlapping(latest: datetime, active_run: str) -> Refusal:
    fires = FireRange(first=latest, last=latest, count=1)
    reason = f"run {active_run} was still active, and overlap is 'forbid'"
    return Refusal(fires, Outcome.SKIPPED, reason, "overlap")
