"""Jobs that a leader did not have: why their fires did not run."""

from datetime import datetime
from functools import cached_property

from leaderjob.model.record import Record
from leaderjob.names import Name


class Lacking(Record):
    """``lacking/<token>``: the jobs in force that the leader of one term did not have.

    That was so from ``since`` until ``seen`` at least: the leader writes it again once a minute. ``elsewhere`` tells of some
    of the jobs when another live replica came to have them, and when none had them any more, in turn: the last six instants.
    """

    token: int
    replica: Name
    since: datetime
    seen: datetime
    jobs: tuple[Name, ...]
    elsewhere: dict[Name, tuple[datetime, ...]] = {}

    @cached_property
    def named(self) -> frozenset[str]:
        """The jobs, to look one up: every fire of every job asks, and there may be ten thousand."""
        return frozenset(self.jobs)
