"""The result of a run, and whether it is what was aimed at."""

import http.client
import json
import os
import platform
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from contest.arena import Scores
from contest.contestants import LIMIT, OURS, Contestant
from contest.elections import ElectionCost
from contest.figures import Ratio, Score

TARGET = 1.15
"""How much of the limit we may cost."""

FEWEST_ROUNDS = 8
"""With fewer, who was faster in three rounds of four is a matter of luck."""


class Standing(StrEnum):
    """Ours beside a peer's. Ahead or behind it is who was faster in three rounds of four."""

    AHEAD = "ahead"
    EVEN = "even"
    BEHIND = "behind"
    FAILED = "it failed"

    @classmethod
    def of(cls, ratio: Ratio) -> "Standing":
        """:param ratio: of our durations to theirs."""
        if ratio.high < 1:
            return cls.AHEAD
        return cls.BEHIND if ratio.low > 1 else cls.EVEN


@dataclass(frozen=True, slots=True)
class Machine:
    cores: int
    python: str
    etcd: str
    load: float
    """Of the last minute, when the run ended: above the number of cores others were busy too."""


@dataclass(frozen=True, slots=True)
class Report:
    """:param absent: who could not take part, and why."""

    machine: Machine
    contestants: tuple[Contestant, ...]
    absent: dict[str, str]
    scores: Scores
    elections: list[ElectionCost]

    @property
    def rounds(self) -> int:
        """How many were played."""
        return max(len(scores[LIMIT].outcomes) for scores in self.scores.values())

    def to_limit(self, load: str, name: str) -> Ratio | None:
        """What a contestant costs under a load; None: it is out."""
        score = self.scores[load][name]
        if score.failure is not None:
            return None
        return Ratio.of(score.durations_s, self.scores[load][LIMIT].durations_s)

    def p99_to_limit(self, load: str, name: str) -> Ratio | None:
        """The same for the slowest hundredth; None: it is out, or latencies are not measured."""
        score = self.scores[load][name]
        if score.failure is not None or not score.p99s_s:
            return None
        return Ratio.of(score.p99s_s, self.scores[load][LIMIT].p99s_s)

    def over_target(self) -> list[str]:
        """The loads under which we cost more than the target."""
        ratios = {load: self.to_limit(load, OURS) for load in self.scores}
        return [load for load, ratio in ratios.items() if ratio is None or ratio.median > TARGET]

    def standing(self, load: str, peer: str) -> Standing:
        score = self.scores[load][peer]
        if score.failure is not None:
            return Standing.FAILED
        return Standing.of(Ratio.of(self.scores[load][OURS].durations_s, score.durations_s))

    @property
    def can_tell(self) -> bool:
        """Whether there were enough rounds for a verdict."""
        return self.rounds >= FEWEST_ROUNDS

    @property
    def meets_targets(self) -> bool:
        """Whether nothing is over the target, and no peer is ahead of us that is not ahead of the limit as well:
        then it is the transport that is faster, not the client."""
        return not self.over_target() and not any(
            self.standing(load, peer.name) is Standing.BEHIND and not self._is_beyond_limit(load, peer.name)
            for load in self.scores
            for peer in self.contestants
            if peer.is_peer
        )

    def _is_beyond_limit(self, load: str, name: str) -> bool:
        ratio = self.to_limit(load, name)
        return ratio is not None and ratio.high < 1

    def as_json(self) -> dict[str, Any]:
        """Every figure, durations in seconds, ratios to the limit; None where there is none."""
        peers = [contestant.name for contestant in self.contestants if contestant.is_peer]
        return {
            "target": TARGET,
            "meets_targets": self.meets_targets if self.can_tell else None,
            "over_target": self.over_target(),
            "standings": {peer: {load: self.standing(load, peer) for load in self.scores} for peer in peers},
            "machine": asdict(self.machine),
            "rounds": self.rounds,
            "contestants": {contestant.name: contestant.what for contestant in self.contestants},
            "absent": self.absent,
            "loads": {
                load: {name: self._score_json(load, name, score) for name, score in scores.items()}
                for load, scores in self.scores.items()
            },
            "elections": [asdict(cost) for cost in self.elections],
        }

    def _score_json(self, load: str, name: str, score: Score) -> dict[str, Any]:
        if score.failure is not None:
            return {"failure": score.failure}
        ratio, p99_ratio = self.to_limit(load, name), self.p99_to_limit(load, name)
        return {
            "p50_s": score.latency_s(50),
            "p99_s": score.latency_s(99),
            "per_s": score.per_s,
            "cpu_s": score.cpu_s,
            "durations_s": score.durations_s,
            "to_limit": asdict(ratio) if ratio is not None else None,
            "p99_to_limit": asdict(p99_ratio) if p99_ratio is not None else None,
        }


def machine(endpoint: str) -> Machine:
    """This machine, and the etcd that listens on ``endpoint``."""
    connection = http.client.HTTPConnection(endpoint, timeout=5.0)
    try:
        connection.request("GET", "/version")
        etcd = str(json.loads(connection.getresponse().read())["etcdserver"])
    finally:
        connection.close()
    cores = len(os.sched_getaffinity(0))
    return Machine(cores, platform.python_version(), etcd, os.getloadavg()[0])
