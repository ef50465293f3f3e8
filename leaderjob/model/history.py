"""Which life of the store we are in: changes when it is restored from a backup."""

from leaderjob.model.record import Record


class History(Record):
    """``meta/history``: a random id, and what is added to create revisions to make fencing tokens."""

    id: str
    token_floor: int = 0
