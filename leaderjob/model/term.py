"""A term as a value: one uninterrupted leadership."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """Who holds office, and how to prove it.

    :param prefix: the election's prefix, with a trailing slash.
    :param lease_id: the session's lease; the key is ``<prefix><lease id in hex>``.
    :param create_revision: the create revision of the key: what orders candidates.
    :param token_floor: added to the revision after the store was restored from a backup.
    """

    prefix: str
    lease_id: int
    create_revision: int
    token_floor: int = 0

    @property
    def key(self) -> str:
        return f"{self.prefix}{self.lease_id:x}"

    @property
    def token(self) -> int:
        """The fencing token: grows with each term, and is handed to jobs."""
        return self.token_floor + self.create_revision
