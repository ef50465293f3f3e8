"""What a soak has seen in etcd and in the replicas' logs, and what of it is not as it should be."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from leaderjob.model.run import Outcome, Run, State

_EXTENDED = re.compile(r"^(\d\d):(\d\d):(\d\d\.\d+) .*\btrust_extended .*\bleft_s=([0-9.]+)", re.MULTILINE)
_AT_RISK = re.compile(r"^[0-9:.]+ +WARNING .*\btrust_at_risk\b")
_DAY_S = 86_400.0


@dataclass(slots=True)
class Evidence:
    """:param periods: the pause between two fires of each job."""

    periods: Mapping[str, timedelta]
    terms: list[int] = field(default_factory=list)
    """The create revisions of the leader's key, as they came; 0: nobody led."""
    fires: dict[str, set[datetime]] = field(default_factory=dict)
    lateness_s: list[float] = field(default_factory=list)
    ended_otherwise: dict[str, str] = field(default_factory=dict)
    """By the run: what became of those that did not succeed."""

    def saw_leader(self, create_revision: int) -> None:
        if not self.terms or self.terms[-1] != create_revision:
            self.terms.append(create_revision)

    def saw_run(self, run: Run) -> None:
        """A record of a run, as often as it changes."""
        if run.state is State.DONE and run.outcome is not Outcome.SUCCEEDED:
            when = run.fires.first if run.fires else run.fire_time
            self.ended_otherwise[run.id] = f"{run.job} at {when}: {run.outcome}: {run.reason}"
        if run.fire_time is None or run.fire_time in self.fires.setdefault(run.job, set()):
            return
        if run.attempt is not None:
            self.fires[run.job].add(run.fire_time)
            self.lateness_s.append((run.attempts[0].started - run.fire_time).total_seconds())

    @property
    def leader_changes(self) -> int:
        return max(0, len(self.terms) - 1)

    def gaps(self, since: datetime, until: datetime) -> Iterator[str]:
        """Where fires are missing that were due between the two."""
        for job, period in self.periods.items():
            fires = sorted(fire for fire in self.fires.get(job, ()) if fire > since)
            if not fires:
                if until - since >= period:
                    yield f"{job}: no fire at all"
                continue
            for before, after in pairwise([since, *fires]):
                if (missing := math.ceil((after - before) / period) - 1) > 0:
                    yield f"{job}: {missing} missing between {before:%H:%M:%S} and {after:%H:%M:%S}"
            if (missing := (until - fires[-1]) // period) > 0:
                yield f"{job}: {missing} missing at the end, after {fires[-1]:%H:%M:%S}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """:param least_trust_s: that was left when the next keepalive was confirmed; None: none was.
    :param problems: why the soak has failed, a line each.
    """

    minutes: float
    members: int
    burners: int
    ttl_s: int
    leader_changes: int
    trust_at_risk: int
    least_trust_s: float | None
    fires: int
    worst_lateness_s: float | None
    problems: list[str]

    def render(self) -> str:
        least = "-" if self.least_trust_s is None else f"{self.least_trust_s:.2f} s"
        worst = "-" if self.worst_lateness_s is None else f"{self.worst_lateness_s * 1000:.0f} ms"
        lines = [
            f"{self.minutes:g} minutes, 3 replicas, {self.members} of etcd, TTL {self.ttl_s} s, "
            f"{self.burners} processes that burn a core each",
            f"  leader changes            {self.leader_changes}",
            f"  trust was at risk         {self.trust_at_risk} times",
            f"  the least trust left      {least}",
            f"  fires                     {self.fires}",
            f"  the latest one began      {worst} after it was due",
            *(f"not as it should be: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


def judge(
    evidence: Evidence, logs: Iterable[str], *, since: datetime, until: datetime, **facts: Any
) -> Verdict:
    """What it all shows. :param since: every fire that was due from then on should be there, :param until: then.

    :param facts: the fields of :class:`Verdict` that say what was done.
    """
    read = list(logs)
    problems = [*evidence.gaps(since, until), *evidence.ended_otherwise.values()]
    if evidence.leader_changes:
        problems.insert(0, f"leadership changed {evidence.leader_changes} times")
    return Verdict(
        leader_changes=evidence.leader_changes,
        trust_at_risk=sum(len([line for line in log.splitlines() if _AT_RISK.match(line)]) for log in read),
        least_trust_s=min(
            (left_s for log in read if (left_s := least_trust_s(log)) is not None), default=None
        ),
        fires=sum(map(len, evidence.fires.values())),
        worst_lateness_s=max(evidence.lateness_s, default=None),
        problems=problems,
        **facts,
    )


def least_trust_s(log: str) -> float | None:
    """What was left of a leader's trust when a keepalive extended it, at the least, by its log in text at level debug.

    What a confirmation leaves runs down until the next one: by the time that lies between their lines.
    """
    told = [
        (int(hours) * 3600 + int(minutes) * 60 + float(seconds), float(left_s))
        for hours, minutes, seconds, left_s in _EXTENDED.findall(log)
    ]
    return min(
        (left_s - (after_s - at_s) % _DAY_S for (at_s, left_s), (after_s, _) in pairwise(told)), default=None
    )
