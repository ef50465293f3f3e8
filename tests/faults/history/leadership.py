"""I11 and I13: that somebody leads, and that nobody is driven from office without need."""

from collections.abc import Iterator

from leaderjob.model.command import Command, CommandKind
from leaderjob.records.keys import Kind
from tests.faults.history.past import History, Intervention
from tests.faults.history.spans import of_interventions, total_s, within, without
from tests.faults.history.terms import Election
from tests.faults.history.told import Told
from tests.faults.history.violation import Bounds, Violation

_ABOUT_TO_GO = ("replica_stopped", "replica_stopping")

_HELD_UP_WITHIN_S, _HELD_UP_S = 45.0, 10.0
"""A leader takes itself for unfit when 15 s out of 30 were lost, seen twice in a row; some of it may be the load."""


def leaders_act_in_time(history: History, bounds: Bounds) -> list[Violation]:
    """I11: with a quorum and one healthy replica there is an acting leader within the bound.

    It acts from when it takes office: who has won, and is busy with itself, is of no use. Counted from the first candidate on. What follows the last leader counts only where replicas run at the end
    (``rest``).
    """
    election = Election(history)
    if not election.standings:
        return []
    without_since = min(each.created.at for each in election.standings)
    found = []
    for standing in election.standings:
        acts_from = _acts_from(history, election.token(standing))
        if acts_from is None:
            continue
        found += _too_long(history, bounds, without_since, acts_from)
        without_since = standing.deleted.at if standing.deleted is not None else float("inf")
    if history.rest is not None:
        found += _too_long(history, bounds, without_since, history.end)
    return found


def _acts_from(history: History, token: int) -> float | None:
    times = (told.at for told in history.told if told.event == "takes_office" and told.has(term=token))
    return min(times, default=None)


def _too_long(history: History, bounds: Bounds, since: float, until: float) -> list[Violation]:
    """What of this time without an acting leader is excused by nothing, if it is too much."""
    spans = without([(since, until)], of_interventions(history, Intervention.OUTAGE)) if since < until else []
    longest = max(spans, key=lambda span: span[1] - span[0], default=(0.0, 0.0))
    without_s = longest[1] - longest[0]
    if without_s <= bounds.acting_bound_s:
        return []
    evidence = {
        "since": round(longest[0], 3),
        "until": round(longest[1], 3),
        "bound_s": bounds.acting_bound_s,
    }
    return [Violation("I11", f"nobody led for {without_s:.3f} s, although somebody could", evidence)]


def no_takeover_on_suspicion(history: History, bounds: Bounds) -> list[Violation]:
    """I13: a verdict is true, unless the network lies; and in a healthy run office changes hands only where its
    holder gives it up; and it gives it up only for a cause."""
    found = [*_wrong_verdicts(history)]
    found += _driven_out(history) if bounds.healthy else []
    return found + ([*_given_up_for_nothing(history, bounds)] if bounds.all_noted else [])


def _wrong_verdicts(history: History) -> Iterator[Violation]:
    election = Election(history)
    for verdict in history.told:
        if verdict.event != "verdict" or history.excused(Intervention.REJECTION, verdict.at):
            continue
        key = verdict.fields["key"]
        dead = next((each for each in reversed(election.standings) if each.key == key), None)
        if dead is None:
            continue
        if dead.replica == verdict.replica:
            continue  # it came back, and found the key of the process that it was
        word = _word_after(history, str(dead.replica), verdict.at)
        if word is not None:
            yield Violation(
                "I13",
                f"{verdict.replica} took {dead.replica} for dead ({verdict.fields['evidence']}), and it lived on",
                {"verdict_at": round(verdict.at, 3), "lived_at": round(word.at, 3), "told": word.event},
            )


def _word_after(history: History, replica: str, at: float) -> Told | None:
    """What the process that a replica had at that time told later, if anything; but for its last words."""
    before = [told for told in history.told if told.replica == replica and told.at <= at]
    if not before:
        return None
    process = max(told.process for told in before)
    later = (
        told
        for told in history.told
        if (told.replica, told.process) == (replica, process)
        and told.at > at
        and told.event not in _ABOUT_TO_GO
    )
    return max(later, key=lambda told: told.at, default=None)


def _driven_out(history: History) -> Iterator[Violation]:
    election = Election(history)
    for standing in election.standings:
        gone = standing.deleted
        if standing.proclaimed is None or gone is None:
            continue
        token = election.token(standing)
        gave_up = any(
            told.event == "stepping_down" and told.has(term=token) and told.at <= gone.at
            for told in history.told
        )
        if not gave_up:
            evidence = {"token": token, "revision": gone.revision, "at": round(gone.at, 3)}
            yield Violation("I13", f"{standing.replica} lost office in a healthy run", evidence)


def _given_up_for_nothing(history: History, bounds: Bounds) -> Iterator[Violation]:
    for told in history.told:
        if told.event != "stepping_down" or _was_asked(history, told, bounds) or _was_unfit(history, told):
            continue
        evidence = {"token": told.fields["term"], "at": round(told.at, 3), "reason": told.fields["reason"]}
        yield Violation(
            "I13", f"{told.replica} gave up office, and nothing had been done for which", evidence
        )


def _was_asked(history: History, gave_up: Told, bounds: Bounds) -> bool:
    """Its process was told to stop, or somebody asked for the end of that term."""
    stopping = any(
        told.event == "replica_stopping"
        and (told.replica, told.process) == (gave_up.replica, gave_up.process)
        and told.at <= gave_up.at
        for told in history.told
    )
    return stopping or any(
        isinstance(command := change.record, Command)
        and command.kind is not CommandKind.TRIGGER
        and command.token == gave_up.fields["term"]
        and change.at <= gave_up.at + bounds.lateness_s
        for change in history.of(Kind.COMMAND)
    )


def _was_unfit(history: History, gave_up: Told) -> bool:
    if history.excused(Intervention.BAD_DISK, gave_up.at, about=gave_up.replica):
        return True
    held_up = of_interventions(history, Intervention.HELD_UP, about=gave_up.replica)
    lately = within(held_up, [(gave_up.at - _HELD_UP_WITHIN_S, gave_up.at)])
    return total_s(lately) >= _HELD_UP_S
