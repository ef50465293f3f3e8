"""Office that is to pass to one replica, and not to whoever is next."""

from leaderjob.model.record import Record
from leaderjob.names import Name


class Transfer(Record):
    """``meta/transfer``, on the leader's lease: candidates before replica ``to`` queue again, behind it.

    ``token`` is that of the term which wrote it: nobody heeds it in another.
    """

    to: Name
    token: int
