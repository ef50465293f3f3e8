"""Replicas compared by the jobs that they have, as one view shows them.

A member says which jobs in force it lacks; how many unfinished runs those have is counted here. So all ranks in a comparison
are of one moment, and a run that begins or ends costs no write of a member record.
"""

from collections.abc import Callable, Iterable

from leaderjob.model.member import Lacks, Priority
from leaderjob.model.rank import Rank, Standing, is_better, lacks_less
from leaderjob.records.keys import Kind
from leaderjob.records.view import View

_NAMED = 10


def name_some(jobs: Iterable[str], count: int | None = None) -> str:
    """The first ten names. :param count: how many there are, where ``jobs`` is not all of them."""
    names = list(jobs)
    more = (len(names) if count is None else count) - len(names[:_NAMED])
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def count_jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def lacks_of(view: View, replica: str) -> Lacks | None:
    """What that member lacks. None: it is not alive, has not counted yet, or does not count."""
    found = view.get(Kind.MEMBER, replica)
    lacks: Lacks | None = found.record.lacks if found is not None else None
    return lacks


def jobs_of(view: View, replica: str) -> Callable[[str], bool | None]:
    """Tells of each job whether a live member has it. None: it is not known."""
    lacks = lacks_of(view, replica)
    lacking = frozenset(lacks.jobs) if lacks is not None else frozenset[str]()

    def has(job: str) -> bool | None:
        spec = view.get(Kind.SPEC, job)
        if lacks is None:
            return None
        if spec is None or spec.record.removed is not None:
            return job in lacks.returned
        if job in lacking:
            return False
        is_counted = spec.create_revision <= lacks.revision and len(lacks.jobs) == lacks.count
        return True if is_counted else None

    return has


def rank_of(view: View, replica: str) -> Rank | None:
    """None: not known."""
    lacks = lacks_of(view, replica)
    if lacks is None:
        return None
    lacking = {job for job in lacks.jobs if view.is_in_force(job)}
    unnamed = lacks.count - len(lacks.jobs)
    runs = sum(len(view.unfinished_runs(job)) for job in lacking & view.jobs_with_unfinished_runs)
    return Rank(runs=runs, jobs=len(lacking) + unnamed)


def better_behind(view: View, replica: str) -> str | None:
    """The first candidate behind this one that lacks less, whatever its priority; None: there is none."""
    own = rank_of(view, replica)
    if own is None or own == Rank():
        return None
    standing = [stored.record.replica for stored in view.queue]
    behind = standing[standing.index(replica) + 1 :] if replica in standing else []
    return next((other for other in behind if lacks_less(rank_of(view, other), own)), None)


def better_leader(view: View, leader: str) -> str | None:
    """The candidate that should lead in place of ``leader``, the first in line of those; None: there is none."""
    best, standing = None, _standing(view, leader)
    for candidate in view.queue:
        replica = candidate.record.replica
        # Asked at each change of the feed: where nothing is lacking, nobody's rank need be counted.
        if replica == leader or (standing.rank == Rank() and not _is_preferred(view, replica)):
            continue
        if is_better(found := _standing(view, replica), standing):
            best, standing = replica, found
    return best


def why_better(view: View, leader: str, to: str) -> str:
    """Why ``to`` is the :func:`better_leader`."""
    if not lacks_less(rank_of(view, to), rank_of(view, leader)):
        return f"{to} is preferred"
    lacks = lacks_of(view, leader)
    assert lacks is not None
    return f"{to} has more of the jobs: {leader} lacks {name_some(lacks.jobs, lacks.count)}"


def why_worse(view: View, to: str) -> str | None:
    """Why office should not pass to that replica, although it could; None: no candidate lacks less."""
    lacks, rank = lacks_of(view, to), rank_of(view, to)
    for candidate in view.queue:
        other = candidate.record.replica
        if lacks is not None and other != to and lacks_less(rank_of(view, other), rank):
            return (
                f"{to} lacks {count_jobs(lacks.count)} that it could not run as the leader "
                f"({name_some(lacks.jobs, lacks.count)}), and {other} has more of them. Start {to} with these jobs, or "
                "use --force: then it leads until no run is under way, and hands office back"
            )
    return None


def _standing(view: View, replica: str) -> Standing:
    return Standing(rank_of(view, replica), preferred=_is_preferred(view, replica))


def _is_preferred(view: View, replica: str) -> bool:
    member = view.get(Kind.MEMBER, replica)
    return member is not None and member.record.priority is Priority.PREFERRED
