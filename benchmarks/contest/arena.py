"""The rounds: under each load everybody has a turn before the next load, so that noise hits all alike."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from contest.figures import Score
from contest.loads import Load
from contest.player import Player, TurnFailed
from contest.stage import Stage

Scores = dict[str, dict[str, Score]]
"""By the load's name, then by the contestant's."""

T = TypeVar("T")

_WARM_UP_DIVISOR = 10
_FEWEST_ROUNDS = 3


async def compete(
    players: Sequence[Player],
    loads: Sequence[Load],
    stage: Stage,
    *,
    rounds: int,
    limit_s: float,
    told: Callable[[str], None],
) -> Scores:
    """A round to warm up, which does not count, then ``rounds`` rounds. Who fails under a load is out of it.

    :param limit_s: after so many seconds no further round begins, unless there were too few.
    :raises TurnFailed: ours or the limit did: there is nothing to compare.
    """
    scores: Scores = {
        load.name: {player.contestant.name: Score(load.count, load.judged_by_latency) for player in players}
        for load in loads
    }
    ends_at = time.monotonic() + limit_s
    for number in range(rounds + 1):
        if number > _FEWEST_ROUNDS and time.monotonic() > ends_at:
            break
        told(f"round {number} of {rounds}" if number else "warming up")
        for load in loads:
            for player in in_turn(players, number):
                score = scores[load.name][player.contestant.name]
                if score.failure is not None:
                    continue
                played = load if number else load.divided_by(_WARM_UP_DIVISOR)
                try:
                    outcome = await played.play(player, stage)
                except TurnFailed as failed:
                    if not player.contestant.is_peer:
                        raise TurnFailed(f"{player.contestant.name}, {load.name}: {failed}") from failed
                    score.failure = str(failed)
                    continue
                if number:
                    score.outcomes.append(outcome)
    return scores


def in_turn(players: Sequence[T], number: int) -> Sequence[T]:
    """Everybody, beginning with another one in each round."""
    first = number % len(players)
    return [*players[first:], *players[:first]]
