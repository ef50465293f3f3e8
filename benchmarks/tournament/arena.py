"""The rounds: in each event everybody has a turn before the next event, so that noise hits all alike."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from contest.arena import in_turn
from contest.figures import Ratio, Score
from contest.player import Player, TurnFailed
from contest.turns import Outcome

from tournament.entrants import Entrant
from tournament.events import Event
from tournament.turns import Turn

_FEWEST_ROUNDS = 2
_WARM_UP_DIVISOR = 4


@dataclass(slots=True)
class Played(Score):
    """The rounds that an entrant has played. :param numbers: of these rounds."""

    numbers: list[int] = field(default_factory=list)

    def ratio_to(self, other: "Played") -> Ratio:
        """Of what it took, in the rounds that both have played. :raises ValueError: there is none."""
        mine = dict(zip(self.numbers, self.durations_s, strict=True))
        theirs = dict(zip(other.numbers, other.durations_s, strict=True))
        both = [number for number in mine if number in theirs]
        return Ratio.of([mine[number] for number in both], [theirs[number] for number in both])


Scores = dict[str, dict[str, Played]]
"""By the row's name, then by the entrant's; who has no such thing is not there."""


async def compete(
    players: Mapping[str, Player],
    entrants: Sequence[Entrant],
    events: Sequence[Event],
    *,
    rounds: int,
    limit_s: float,
    told: Callable[[str], None],
) -> Scores:
    """A round to warm up, which does not count, then ``rounds`` rounds. Who fails in an event is out of it.

    :param players: of the entrants, by name. :param limit_s: after so many seconds no further round begins, unless
        there were too few.
    :raises TurnFailed: ours or the two puts did: there is nothing to compare.
    """
    scores: Scores = {
        event.row(measure): {
            entrant.name: Played(
                event.repeated_less(entrant.divisor).repetitions(measure), measure.by_latency
            )
            for entrant in entrants
            if event.kind not in entrant.lacks
        }
        for event in events
        for measure in event.measures
    }
    serial = itertools.count(1)
    ends_at_s = time.monotonic() + limit_s
    for number in range(rounds + 1):
        if number > _FEWEST_ROUNDS and time.monotonic() > ends_at_s:
            break
        for event in events:
            for entrant in in_turn(entrants, number):
                rows = [scores[event.row(measure)] for measure in event.measures]
                mine = [row[entrant.name] for row in rows if entrant.name in row]
                is_out = not mine or mine[0].failure is not None
                if is_out or not (entrant.takes_part(event.kind, number) or number == 0):
                    continue
                told(
                    f"{f'round {number} of {rounds}' if number else 'warming up'}: {event.kind}: {entrant.name}"
                )
                played = event if number else event.divided_by(_WARM_UP_DIVISOR)
                try:
                    outcomes = await _play(
                        players[entrant.name], played.repeated_less(entrant.divisor), next(serial)
                    )
                except TurnFailed as failed:
                    if entrant.is_needed:
                        raise TurnFailed(f"{entrant.name}, {event.kind}: {failed}") from failed
                    for score in mine:
                        score.failure = str(failed)
                    continue
                if number:
                    for score, outcome in zip(mine, outcomes, strict=True):
                        score.outcomes.append(outcome)
                        score.numbers.append(number)
    return scores


async def _play(player: Player, event: Event, serial: int) -> list[Outcome]:
    """One outcome per measure, in their order. :raises TurnFailed: there is none."""
    await player.begin(Turn(event.kind, f"{event.kind}-{serial}", event.count, event.crowd))
    answers = await player.answer(timeout_s=event.timeout_s)
    return [Outcome(**answers[measure.answer]) for measure in event.measures]
