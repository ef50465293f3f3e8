"""From outcomes to figures: percentiles over all rounds, and ratios within each round."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from contest.turns import Outcome


@dataclass(frozen=True, slots=True)
class Ratio:
    """To the limit: the median over the rounds, and the middle half of them. More than 1 is slower."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> "Ratio":
        """Of two rows of durations, round by round. :raises ValueError: no round, or not the same ones."""
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        if not ratios:
            raise ValueError("no round was played")
        if len(ratios) == 1:
            return cls(ratios[0], ratios[0], ratios[0])
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(slots=True)
class Score:
    """All rounds of one contestant under one load. :param failure: why it is out, if it is."""

    count: int
    judged_by_latency: bool
    outcomes: list[Outcome] = field(default_factory=list)
    failure: str | None = None

    @property
    def durations_s(self) -> list[float]:
        """What the contestant is judged by, per round: its median latency, or how long all of it took."""
        if self.judged_by_latency:
            return [percentile(outcome.latencies_s, 50) for outcome in self.outcomes]
        return [outcome.elapsed_s for outcome in self.outcomes]

    @property
    def p99s_s(self) -> list[float]:
        """Per round; empty where latencies are not measured."""
        return [percentile(outcome.latencies_s, 99) for outcome in self.outcomes if outcome.latencies_s]

    @property
    def cpu_s(self) -> float:
        """Processor time per call or event, in the median round."""
        return statistics.median(outcome.cpu_s for outcome in self.outcomes) / self.count

    @property
    def per_s(self) -> float:
        """Calls or events per second, in the median round."""
        return self.count / statistics.median(outcome.elapsed_s for outcome in self.outcomes)

    def latency_s(self, percent: int) -> float | None:
        """A percentile over all rounds together; None where latencies are not measured."""
        latencies = [latency for outcome in self.outcomes for latency in outcome.latencies_s]
        return percentile(latencies, percent) if latencies else None


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that ``percent`` of all are not above (nearest rank). :raises ValueError: there is none."""
    if not values:
        raise ValueError("a percentile of nothing")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
