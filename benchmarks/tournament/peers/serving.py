"""Turns as they are asked for and answered, for entrants that work in an event loop and for those that block."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

from contest.peers.tally import say

from tournament.turns import Outcomes, Turn


def answer_turns(kinds: Mapping[str, Callable[[Turn], Outcomes]]) -> None:
    """Answer turns until there are no more, each by what is here for its kind."""
    for line in sys.stdin:
        turn = _turn(line)
        _answer(kinds[turn.kind](turn))


async def answer_turns_in_loop(kinds: Mapping[str, Callable[[Turn], Awaitable[Outcomes]]]) -> None:
    """See :func:`answer_turns`."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        turn = _turn(line)
        _answer(await kinds[turn.kind](turn))


def _turn(line: str) -> Turn:
    return Turn(**json.loads(line))


def _answer(outcomes: Outcomes) -> None:
    say(json.dumps({name: asdict(outcome) for name, outcome in outcomes.items()}))
