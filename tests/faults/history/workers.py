"""I6: at most one worker of a job at a time."""

from collections.abc import Iterator
from itertools import pairwise

from tests.faults.history.effects import Effect
from tests.faults.history.past import History
from tests.faults.history.violation import Bounds, Violation

Life = list[Effect]
"""What the processes of one attempt did, in the order of time."""


def lives(history: History) -> Iterator[tuple[str, list[Life]]]:
    """The attempts of each job, by when they began."""
    found: dict[str, dict[tuple[str, int, int], Life]] = {}
    for effect in sorted(history.effects, key=lambda effect: effect.at):
        attempt = (effect.run, effect.attempt, effect.token)
        found.setdefault(effect.job, {}).setdefault(attempt, []).append(effect)
    for job, attempts in found.items():
        yield job, list(attempts.values())


def workers_do_not_overlap(history: History, bounds: Bounds) -> list[Violation]:
    """I6: two workers of one job never overlap, within a term or across terms. All that an attempt started is
    its worker, however it fled."""
    found = []
    for job, attempts in lives(history):
        longest = attempts[0]
        for former, later in pairwise(attempts):
            longest = max(longest, former, key=lambda life: life[-1].at)
            last, first = longest[-1], later[0]
            if last.at <= first.at:
                continue
            evidence = {
                "former": f"{last.run}#{last.attempt} of term {last.token}, pid {last.pid}",
                "later": f"{first.run}#{first.attempt} of term {first.token}, pid {first.pid}",
                "began_at": round(first.at, 3),
                "former_lived_at": round(last.at, 3),
            }
            found.append(
                Violation("I6", f"two workers of {job} overlap for {last.at - first.at:.3f} s", evidence)
            )
    return found
