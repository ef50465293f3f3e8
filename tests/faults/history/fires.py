"""I10: none of the fires that are due vanishes."""

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile

from leaderjob.errors import InvalidSchedule
from leaderjob.model.job import Timetable
from leaderjob.model.run import Cause, Run, State
from leaderjob.records.keys import Kind
from leaderjob.scheduling.triggers import parse_schedule
from tests.faults.history.past import Change, History, decoded
from tests.faults.history.violation import Bounds, Violation


def every_fire_is_accounted_for(history: History, bounds: Bounds) -> list[Violation]:
    """I10: each due fire ends as published, failed, skipped, superseded, or recorded as missed.

    A fire is due when the watermark passes it, and recorded in the same transaction. The watermark never
    decreases. At rest, each recorded fire has come to its end.
    """
    if history.gaps:
        return []  # told as unknown
    recorded = _recorded(history)
    found = [
        violation
        for change in history.of(Kind.TIMETABLE)
        for violation in _passed(change, recorded.get(change.names[0], []))
    ]
    if history.rest is not None:
        for key, kv in history.rest.items():
            run = decoded(history.keys.locate(key), kv)
            if isinstance(run, Run) and run.state is not State.DONE:
                found.append(
                    Violation("I10", f"run {run.id} of {run.job} is {run.state}, at rest", {"key": key})
                )
    return found


def _recorded(history: History) -> dict[str, list[tuple[int, Run]]]:
    """What is accounted for by job, and from which revision on."""
    found: dict[str, list[tuple[int, Run]]] = {}
    for change in history.of(Kind.RUN):
        if change.before is None and isinstance(run := change.record, Run) and run.cause is Cause.SCHEDULE:
            found.setdefault(run.job, []).append((change.revision, run))
    return found


def _passed(change: Change, recorded: list[tuple[int, Run]]) -> Iterator[Violation]:
    job, before, now = change.names[0], change.record_before, change.record
    if not isinstance(before, Timetable) or not isinstance(now, Timetable):
        return
    evidence = {"revision": change.revision}
    if now.watermark < before.watermark:
        yield Violation("I10", f"the watermark of {job} went back", evidence)
        return
    here = [run for revision, run in recorded if revision <= change.revision]
    for fire in _due(before, now.watermark):
        if not any(_covers(run, fire) for run in here):
            yield Violation("I10", f"the fire of {job} at {fire.isoformat()} vanished", evidence)


def _due(timetable: Timetable, until: datetime) -> list[datetime]:
    """The fires of a timetable that its next one has passed, one by one."""
    try:
        trigger = parse_schedule(timetable.schedule, job="any", time_zone=timetable.time_zone)
    except InvalidSchedule:
        return []

    def fires() -> Iterator[datetime]:
        fire = trigger.next_after(timetable.watermark)
        while fire is not None:
            yield fire
            fire = trigger.next_after(fire)

    return list(takewhile(lambda fire: fire <= until, fires()))


def _covers(run: Run, fire: datetime) -> bool:
    if run.fires is not None:
        return run.fires.first <= fire <= run.fires.last
    return run.fire_time == fire
