"""Which life of the store we are in: changes when it is restored from a backup."""

from datetime import datetime

from leaderjob.model.record import Record


class Suspicion(Record):
    """What made a replica doubt that the store is the one that it knew. Nobody leads while it stands.

    ``known_revision`` is the highest that any replica saw before: no fencing token was higher.
    """

    replica: str
    reason: str
    known_revision: int
    since: datetime


class History(Record):
    """``meta/history``: a random id, and what is added to create revisions to make fencing tokens.

    ``replaces`` has the ids of the histories before it, oldest first, as far as operators accepted them.
    """

    id: str
    token_floor: int = 0
    replaces: tuple[str, ...] = ()
    suspicion: Suspicion | None = None
