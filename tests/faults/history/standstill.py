"""I10, in time: what is due is accounted for, and what is admitted begins, while a leader is well."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from leaderjob.model.job import Timetable
from leaderjob.model.record import Record
from leaderjob.model.run import Run, State
from leaderjob.records.keys import Kind
from tests.faults.history.past import Change, History, Intervention
from tests.faults.history.spans import Span, of_interventions, total_s, within, without
from tests.faults.history.terms import Election
from tests.faults.history.violation import Bounds, Violation

_LONGEST_STEP = 0.5
"""Of the TTL: two confirmations that are further apart do not say that the leader was well between them."""
_ROUNDING_S = 0.1


def nothing_stands_still(history: History, bounds: Bounds) -> list[Violation]:
    """I10: while a leader acts and is well, each fire is accounted for, and each run begins, within the bound.

    Only time counts that lies between two confirmations of a term, from when it takes office until it is asked to
    give it up, and in which nothing was struck; a term may have it in pieces. A run may wait for a former worker,
    for its own next attempt, and for another run of its job.
    """
    if history.gaps:
        return []  # told as unknown
    timetables, runs = [*_spells(history, Kind.TIMETABLE)], [*_spells(history, Kind.RUN)]
    found: list[Violation] = []
    for (replica, token), calm in _calm(history, bounds).items():
        by_the_clock = without(calm, of_interventions(history, Intervention.CLOCK_SET, about=replica))
        found += _fires(history, bounds, timetables, token, by_the_clock)
        found += _runs(history, bounds, runs, token, calm)
    return found


@dataclass(frozen=True, slots=True)
class _Spell:
    """What stood under a key of a job, and from when until when; None: it was not there, or cannot be read."""

    job: str
    record: Record | None
    since: float
    until: float


def _spells(history: History, kind: Kind) -> Iterator[_Spell]:
    last: dict[str, Change] = {}
    for change in history.of(kind):
        if (before := last.get(change.key)) is not None:
            yield _Spell(before.names[0], before.record, before.at, change.at)
        last[change.key] = change
    for change in last.values():
        yield _Spell(change.names[0], change.record, change.at, history.end)


def _calm(history: History, bounds: Bounds) -> Mapping[tuple[str, int], list[Span]]:
    """By replica and term: when it acted, was confirmed, and was disturbed by nothing."""
    election = Election(history)
    struck = of_interventions(history, Intervention.FAULT, Intervention.OUTAGE)
    found: dict[tuple[str, int], list[Span]] = {}
    for office in history.told:
        if office.event != "takes_office":
            continue
        token = office.fields["term"]
        own = [
            told
            for told in history.told
            if (told.replica, told.process) == (office.replica, office.process) and told.has(term=token)
        ]
        ends = [told.at for told in own if told.event in ("stepping_down", "term_ended")]
        standing = election.of_token(token)
        if standing is not None and standing.deleted is not None:
            ends.append(standing.deleted.at)
        end = min(ends, default=float("inf"))
        confirmed = [told.at for told in own if told.event == "trust_extended" and office.at < told.at <= end]
        steps = zip([office.at, *confirmed], confirmed, strict=False)
        spans = [(since, until) for since, until in steps if until - since <= bounds.ttl_s * _LONGEST_STEP]
        found.setdefault((office.replica, token), []).extend(without(spans, struck))
    return found


def _fires(
    history: History, bounds: Bounds, timetables: Iterable[_Spell], token: int, calm: list[Span]
) -> Iterator[Violation]:
    for spell in timetables:
        timetable = spell.record
        if history.booted is None or not isinstance(timetable, Timetable) or timetable.next_fire is None:
            continue
        due_at = (timetable.next_fire - history.booted).total_seconds()
        waited_s = total_s(within([(max(spell.since, due_at), spell.until)], calm))
        if waited_s > bounds.stands_still_s:
            fire = timetable.next_fire.isoformat()
            sentence = f"the fire of {spell.job} at {fire} was not accounted for in {waited_s:.1f} s"
            evidence = {"token": token, "due_at": round(due_at, 3), "bound_s": bounds.stands_still_s}
            yield Violation("I10", f"{sentence}, although a leader was well", evidence)


def _runs(
    history: History, bounds: Bounds, runs: Iterable[_Spell], token: int, calm: list[Span]
) -> Iterator[Violation]:
    under_way: dict[str, list[Span]] = {}
    waiting: dict[tuple[str, str], list[Span]] = {}
    for spell in runs:
        run = spell.record
        if not isinstance(run, Run) or run.state is State.DONE:
            continue
        attempt = run.attempt
        if attempt is not None and attempt.ended is None and attempt.token == token:
            under_way.setdefault(run.job, []).append((spell.since, spell.until))
        else:
            waiting.setdefault((run.job, run.id), []).append((spell.since, spell.until))
    for (job, run_id), spans in waiting.items():
        here = within(spans, calm)
        if total_s(here) <= bounds.stands_still_s:
            continue
        waited_s = total_s(without(here, [*under_way.get(job, []), *_held_back(history, job)]))
        if waited_s > bounds.stands_still_s:
            evidence = {"token": token, "since": round(spans[0][0], 3), "bound_s": bounds.stands_still_s}
            sentence = f"run {run_id} of {job} was left to wait for {waited_s:.1f} s"
            yield Violation("I10", f"{sentence}, although a leader was well", evidence)


def _held_back(history: History, job: str) -> Iterator[Span]:
    """When a job had to wait, by its leader's word: for former workers, or for what it retries."""
    for told in history.told:
        if not told.has(job=job):
            continue
        if told.event == "holding_back":
            yield told.at, told.at + told.fields["seconds"] + _ROUNDING_S
        elif told.event == "attempt_failed":
            yield told.at, told.at + told.fields["again_in_s"] + _ROUNDING_S
