"""The head of a queue: which items are next, without reading all of it.

A consumer knows the keys of the next few hundred items, in order, and no values. Whoever looks reads the claims and
the first of these items, at one revision. That costs the same however long the queue is; only when the known keys are
used up etcd is asked for more, and etcd sorts the whole queue to answer that. First in, first out, what comes later
stands behind all that is known, so what is known stays right. Last in, first out, it does not: there etcd sorts
at each look.

Where a look passes nothing over, first in, first out, nothing can come to a place before the items that it finds, while
they are taken for good one after the other. So they are remembered, and who takes them need not look each time;
whether an item is still there the transaction that takes it tells.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from leaderjob.etcd import Delete, Etcd, Get, KeyValue, created_at
from leaderjob.recipes.queue_item import NoRecord, QueueKeys, Waiting, decode
from leaderjob.telemetry.events import Events, emit

_PAGE_KEYS = 256
_NEWEST_KEYS = 32
LOOK_ITEMS = 8


@dataclass(frozen=True, slots=True)
class Look:
    """The next items that nobody has claimed, in order; :param revision: that of the first read: what changes after
    it may change what a look finds."""

    waiting: tuple[Waiting, ...]
    revision: int


class Head:
    """The head of one queue, for one consumer."""

    def __init__(self, etcd: Etcd, keys: QueueKeys, *, newest_first: bool) -> None:
        self._etcd = etcd
        self._keys = keys
        self._newest_first = newest_first
        self._known: dict[str, int] = {}
        """Keys in order, with their create revisions."""
        self._edge = 0
        """The create revision of the last one that was ever known: what is behind it is not known yet."""
        self._at_edge = 0
        """How many of the edge's revision are known, where that may not be all: who puts several in one transaction
        gives them one revision, and a page may end among them. 0: all are."""
        self._foreign: dict[str, int] = {}
        self._next: Look | None = None
        self._looking = asyncio.Lock()

    async def look(self) -> Look:
        """What is next, by linearizable reads. :raises EtcdError: etcd does not answer."""
        async with self._looking:
            self.forget()
            if self._newest_first:
                self._known.clear()
                self._edge = self._at_edge = 0
            return await self._look()

    @property
    def remembered(self) -> Look | None:
        """What is next as an earlier look found it: in order, but others may have taken of it. None: look."""
        return self._next

    def taken(self, item: Waiting) -> None:
        """It is gone for good."""
        waiting = () if self._next is None else self._next.waiting
        if waiting[1:] and waiting[0] == item:
            self._next = Look(waiting[1:], 0)
        else:
            self.forget()

    def forget(self) -> None:
        """What is remembered is out of date."""
        self._next = None

    async def _look(self) -> Look:
        first_revision = 0
        passed: set[str] = set()
        claims_seen = False
        while True:
            candidates = list(islice((key for key in self._known if key not in passed), LOOK_ITEMS))
            page = self._next_page()
            reads = [Get(key) for key in candidates] or [page]
            # With their values, which are small: etcd 3.7 tells no lease of keys that are read without them.
            claims = Get(self._keys.claims, prefix=True)
            result = await self._etcd.txn((), [claims, *reads], repeatable=True)
            first_revision = first_revision or result.revision
            claimed = await self._claimed(result.range(0).kvs)
            passed |= claimed
            claims_seen = claims_seen or bool(claimed)
            if not candidates:
                if not self._learn(page, result.range(1).kvs):
                    return Look((), first_revision)
                continue
            found = [result.range(index + 1).first for index in range(len(candidates))]
            waiting = [
                read for key, kv in zip(candidates, found, strict=True) if (read := self._read(key, kv))
            ]
            passed.update(candidates)
            free = tuple(one for one in waiting if one.key not in claimed)
            if free:
                look = Look(free, first_revision)
                if not (claims_seen or self._foreign or self._newest_first):
                    self._next = look
                return look

    def _next_page(self) -> Get:
        """The next keys; again with those of the edge's revision, if not all of them are known."""
        items, known = self._keys.items, self._at_edge
        if self._newest_first:
            before = self._edge + 1 if known else self._edge
            return Get(items, prefix=True, newest=_NEWEST_KEYS + known, created_before=before, keys_only=True)
        after = self._edge - 1 if known else self._edge
        return Get(items, prefix=True, oldest=_PAGE_KEYS + known, created_after=after, keys_only=True)

    def _learn(self, asked: Get, page: Sequence[KeyValue]) -> bool:
        """Whether any of them was not known."""
        known = len(self._known)
        for kv in page:
            self._edge = kv.create_revision
            self._known[kv.key] = kv.create_revision
        is_full = len(page) == asked.newest + asked.oldest
        self._at_edge = sum(kv.create_revision == self._edge for kv in page) if is_full else 0
        return len(self._known) > known

    def _read(self, key: str, kv: KeyValue | None) -> Waiting | None:
        """The item, if it is there and is one; what is not there any more is forgotten."""
        if kv is None or kv.create_revision != self._known[key]:
            del self._known[key]
            self._foreign.pop(key, None)
            return None
        try:
            return Waiting(decode(kv, self._keys.items), kv.key, kv.create_revision, kv.mod_revision)
        except NoRecord as reason:
            if self._foreign.get(key) != kv.mod_revision:
                self._foreign[key] = kv.mod_revision
                emit(Events.QUEUE_VALUE_FOREIGN, key=key, reason=reason)
            return None

    async def _claimed(self, claims: Iterable[KeyValue]) -> set[str]:
        """The keys of the items that are claimed. A claim without a lease would block its item for ever."""
        claimed = set()
        for kv in claims:
            if kv.lease:
                claimed.add(self._keys.items + kv.key.removeprefix(self._keys.claims))
                continue
            emit(Events.CLAIM_WITHOUT_LEASE, key=kv.key)
            await self._etcd.txn([created_at(kv.key, kv.create_revision)], [Delete(kv.key)], repeatable=True)
        return claimed
