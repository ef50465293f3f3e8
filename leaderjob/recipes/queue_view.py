"""What is in a queue, for those who take nothing out of it; they need no session."""

from contextlib import suppress

from leaderjob.etcd import Etcd, Get
from leaderjob.etcd.client import look
from leaderjob.recipes.queue_head import Head
from leaderjob.recipes.queue_item import Item, NoRecord, QueueKeys, decode


class QueueView:
    """One queue, as it is.

    :param newest_first: which end :meth:`peek` looks at.
    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.
    """

    def __init__(
        self, etcd: Etcd, name: str, *, namespace: str = "default", newest_first: bool = False
    ) -> None:
        self.name = name
        self._etcd = etcd
        self._keys = QueueKeys.of(name, namespace)
        self._head = Head(etcd, self._keys, newest_first=newest_first)

    async def peek(self) -> Item | None:
        """The item that is next, without taking it; None: there is none that nobody has claimed."""
        waiting = (await self._head.look()).waiting
        return waiting[0].item if waiting else None

    async def length(self) -> int:
        """How many items there are, those that consumers have claimed (and foreign values) among them."""
        return (await look(self._etcd, Get(self._keys.items, prefix=True, count_only=True))).count

    async def dead(self) -> tuple[Item, ...]:
        """The dead letters, the first buried first. All of them are read."""
        letters = []
        for kv in (await self._etcd.range(self._keys.dead)).kvs:
            with suppress(NoRecord):  # told by foreign()
                letters.append(decode(kv, self._keys.dead))
        return tuple(letters)

    async def foreign(self) -> dict[str, str]:
        """The keys below items and dead letters that no queue has written, each with the reason. They are passed over
        and stay until somebody corrects or deletes them. Reads the whole queue."""
        foreign = {}
        for prefix in (self._keys.items, self._keys.dead):
            for kv in (await self._etcd.range(prefix)).kvs:
                try:
                    decode(kv, prefix)
                except NoRecord as reason:
                    foreign[kv.key] = str(reason)
        return foreign
