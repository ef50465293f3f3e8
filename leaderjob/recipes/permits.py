"""How the holders of a semaphore agree on how many there may be: by a record beside their keys.

Who enters does so in a transaction that compares the record, and the record changes only while nobody stands. So
all who hold a permit or wait for one go by the same number.
"""

import json

from leaderjob.etcd import Compare, Etcd, Get, Put, modified_at, none_below
from leaderjob.recipes.errors import PermitsDiffer


class Permits:
    """The number that one semaphore's record has to say.

    :param key: of the record. :param standing: the prefix of all who hold a permit or wait for one.
    """

    def __init__(self, etcd: Etcd, name: str, permits: int, *, key: str, standing: str) -> None:
        self._etcd = etcd
        self._name = name
        self._permits = permits
        self._key = key
        self._standing = standing
        self._value = json.dumps({"v": 1, "permits": permits}).encode()

    @property
    def agreed(self) -> Compare:
        """Add this to the transaction that enters."""
        return Compare(self._key, "value", "=", self._value)

    async def agree(self) -> None:
        """Make the record say the number. :raises PermitsDiffer: somebody stands by another. :raises EtcdError: no answer."""
        while True:
            found = await self._etcd.get(self._key)
            if found is not None and found.value == self._value:
                return
            if found is not None and _permits(found.value) is None:
                raise PermitsDiffer(
                    self._name, self._permits, f"{found.value[:80]!r}, which is no number of permits"
                )
            seen = 0 if found is None else found.mod_revision
            result = await self._etcd.txn(
                [modified_at(self._key, seen), none_below(self._standing)],
                [Put(self._key, self._value)],
                [Get(self._key), Get(self._standing, prefix=True, newest=1)],
                repeatable=True,
            )
            if result.succeeded:
                return
            now, standing = result.range(0).first, result.range(1).first
            if standing is not None and (now is None or now.value != self._value):
                says = "nothing, for its record was deleted" if now is None else str(_permits(now.value))
                raise PermitsDiffer(self._name, self._permits, says)


def _permits(value: bytes) -> int | None:
    """What a record says; None: it is not one of ours."""
    try:
        record = json.loads(value)
    except ValueError:
        return None
    permits = record.get("permits") if isinstance(record, dict) and record.get("v") == 1 else None
    return permits if isinstance(permits, int) and not isinstance(permits, bool) and permits > 0 else None
