"""Which of two replicas should lead: the one that lacks fewer jobs, then the one that is preferred."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Rank:
    """How much a replica lacks; the lowest is the best.

    :param runs: unfinished runs that it has no job for.
    :param jobs: jobs in force that it does not have.
    """

    runs: int = 0
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides between two replicas. :param rank: None: not known, which makes it neither better nor worse."""

    rank: Rank | None
    preferred: bool = False


def lacks_less(one: Rank | None, other: Rank | None) -> bool:
    """Whether the first rank is strictly better."""
    return one is not None and other is not None and one < other


def is_better(one: Standing, other: Standing) -> bool:
    """Whether the first should lead rather than the second. Rank goes before preference."""
    if lacks_less(one.rank, other.rank):
        return True
    return one.preferred and not other.preferred and not lacks_less(other.rank, one.rank)
