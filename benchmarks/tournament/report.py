"""The result of a run, and whether it is what was aimed at."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contest.contestants import OURS
from contest.figures import Ratio
from contest.report import Machine, Standing

from tournament.arena import Played, Scores
from tournament.entrants import TWO_PUTS, Entrant
from tournament.events import LOCK, Event
from tournament.handovers import HandoverCost

PUTS_TARGET = 1.5
"""How many times as long as two puts locking and unlocking may take."""

ROUND_TRIPS_TARGET = 3
"""How many answers a handover may wait for."""

FEWEST_ROUNDS = 6
"""With fewer, who was faster in three rounds of four is a matter of luck."""


@dataclass(frozen=True, slots=True)
class Report:
    """:param absent: who could not take part, and why. :param handover: None: it was not asked for."""

    machine: Machine
    entrants: Sequence[Entrant]
    events: Sequence[Event]
    scores: Scores
    handover: HandoverCost | None = None
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How many were played; 0: nothing was to be."""
        return max((len(scores[OURS].outcomes) for scores in self.scores.values()), default=0)

    @property
    def can_tell(self) -> bool:
        """Whether there were enough rounds for a verdict."""
        return not self.scores or self.rounds >= FEWEST_ROUNDS

    def of_ours(self, row: str, name: str) -> Ratio | None:
        """How many times as long as we somebody takes; None: it is out, or has no such thing."""
        score = self.scores[row].get(name)
        if score is None or score.failure is not None:
            return None
        return score.ratio_to(self.scores[row][OURS])

    @property
    def of_two_puts(self) -> Ratio | None:
        """How many times as long as two puts locking and unlocking takes; None: it was not asked for."""
        for event in self.events:
            if event.kind == LOCK:
                scores = self.scores[event.row(event.measures[0])]
                return scores[OURS].ratio_to(scores[TWO_PUTS])
        return None

    @property
    def problems(self) -> list[str]:
        """What was aimed at and is not so, however few rounds there were."""
        found = []
        of_two_puts = self.of_two_puts
        if of_two_puts is not None and of_two_puts.median > PUTS_TARGET:
            found.append(
                f"a lock that nobody disputes takes {of_two_puts.median:.2f} times two puts, not {PUTS_TARGET:g}"
            )
        if self.handover is not None and self.handover.waited_for > ROUND_TRIPS_TARGET:
            found.append(
                f"a handover waits for {self.handover.waited_for:g} answers, not {ROUND_TRIPS_TARGET}"
            )
        for row, peer, standing in self._standings():
            if standing is not Standing.AHEAD:
                found.append(f"{row}: {standing} beside {peer}, not ahead")
        return found

    def _standings(self) -> list[tuple[str, str, Standing]]:
        """Beside each peer in Python, in each row that is judged, that it has, and in which it did not fail."""
        judged = [event.row(measure) for event in self.events for measure in event.measures if measure.judged]
        peers = [entrant.name for entrant in self.entrants if entrant.in_python]
        return [
            (row, peer, Standing.of(self.scores[row][OURS].ratio_to(self.scores[row][peer])))
            for row in judged
            for peer in peers
            if peer in self.scores[row] and self.scores[row][peer].failure is None
        ]

    def as_json(self) -> dict[str, Any]:
        """Every figure, durations in seconds, ratios to ours; None where there is none."""
        of_two_puts = self.of_two_puts
        return {
            "machine": asdict(self.machine),
            "rounds": self.rounds,
            "meets_targets": not self.problems if self.can_tell else None,
            "problems": self.problems,
            "entrants": {entrant.name: entrant.contestant.what for entrant in self.entrants},
            "absent": self.absent,
            "lacks": {entrant.name: dict(entrant.lacks) for entrant in self.entrants},
            "of_two_puts": asdict(of_two_puts) if of_two_puts is not None else None,
            "handover": asdict(self.handover) if self.handover is not None else None,
            "rows": {
                row: {name: self._score_json(row, name, score) for name, score in scores.items()}
                for row, scores in self.scores.items()
            },
        }

    def _score_json(self, row: str, name: str, score: Played) -> dict[str, Any]:
        if score.failure is not None:
            return {"failure": score.failure}
        of_ours = self.of_ours(row, name)
        return {
            "p50_s": score.latency_s(50),
            "p99_s": score.latency_s(99),
            "per_s": None if score.judged_by_latency else score.per_s,
            "durations_s": score.durations_s,
            "of_ours": asdict(of_ours) if of_ours is not None else None,
        }
