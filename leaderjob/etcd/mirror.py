"""A prefix, followed: its state first, then each change, across reconnects and compactions.

After a compaction there is no history to resume from: the prefix is listed again, and the consumer
sees the difference between the old and the new state as events. State, not silence.

A watch may lag without bound, and one that waits for a revision which the store lost hears nothing at
all. So after a while of silence a linearizable read tells whether anything was missed. What is only late is
not listed, because a listing tells no history: the watch is opened again where it stood, at another endpoint.
Only when that did not help, time and again, the prefix is listed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from leaderjob.etcd.client import Etcd
from leaderjob.etcd.errors import Compacted, EtcdUnavailable
from leaderjob.etcd.stream import RawBatch, RawEvent, stream
from leaderjob.etcd.values import KeyValue, RangeResult

LOOK_AGAIN_S = 30.0
_LONGEST_PATIENCE = 8
"""How many times as long as it should a watch may be silent that was opened again and again."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


class EventKind(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class Event(NamedTuple):
    """What happened to one key. ``now`` is None for a deletion, ``before`` for a creation."""

    kind: EventKind
    key: str
    now: KeyValue | None
    before: KeyValue | None
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events up to and including ``revision``; ``listed`` if they come from a listing, not from history."""

    events: tuple[Event, ...]
    revision: int
    listed: bool


async def follow(
    etcd: Etcd, prefix: str, *, since: int = 0, look_again_s: float = LOOK_AGAIN_S
) -> AsyncGenerator[Batch, None]:
    """The keys below ``prefix`` as creations (one batch, perhaps empty), then what happens to them.

    Runs until it is closed. Keeps a copy of what is below the prefix.

    :param since: begin with the keys as they were at this revision; 0: as they are.
    :param look_again_s: after so many seconds without an event, a read tells whether any was missed.
    :raises EtcdUnavailable: etcd cannot be listed when it begins; later, that is tried again until it can.
    :raises EtcdError: etcd refuses to be listed. :raises HistoryWentBack: the store did.
    :raises Compacted: ``since`` is no longer there.
    """
    state: dict[str, KeyValue] = {}
    at, begun = since, False
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            listing = await etcd.range(prefix, revision=at)
        except Compacted:
            if at:
                raise
            continue  # between two pages
        except EtcdUnavailable:
            if not begun:
                raise
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            continue
        at, begun = 0, True
        pause_s = _FIRST_PAUSE_S
        yield Batch(difference(state, listing), listing.revision, listed=True)
        state = {kv.key: kv for kv in listing.kvs}
        copy = _Copy(etcd, prefix, state, listing.revision)
        try:
            async with aclosing(_changes(copy, look_again_s)) as changes:
                async for raw in changes:
                    yield Batch(
                        tuple([_apply(state, event) for event in raw.events]), raw.revision, listed=False
                    )
        except Compacted:
            continue


@dataclass(slots=True)
class _Copy:
    """``state`` is what was below ``prefix`` at ``revision``."""

    etcd: Etcd
    prefix: str
    state: dict[str, KeyValue]
    revision: int

    async def is_current(self) -> bool:
        """Whether the store has the same keys now, or does not answer: then there is no news. Other keys would be of
        another number, or one of them would have been modified later.

        :raises _Diverged: at the revision of this copy, the store had other keys.
        """
        # Both as they are now: while the store answers, what is late may arrive.
        revision = self.revision
        known = len(self.state), max((kv.mod_revision for kv in self.state.values()), default=0)
        try:
            now = await self.etcd.newest(self.prefix)
            if (now.keys, now.mod_revision) == known:
                return True
            if now.store_revision < revision:
                raise _Diverged
            then = await self.etcd.newest(self.prefix, revision=revision)
        except EtcdUnavailable:
            return True
        except Compacted:
            return False  # the watch will be told the same, if it has not come further
        if (then.keys, then.mod_revision) != known:
            raise _Diverged
        return False


class _Diverged(Exception):
    """The store has another history than what was followed: it was restored."""


async def _changes(copy: _Copy, look_again_s: float) -> AsyncGenerator[RawBatch, None]:
    """What happens after the copy was made; ends when the store has another history, or tells none of it for long.

    :raises Compacted: what comes next is compacted away.
    """
    patience_s = look_again_s
    longest_s = _LONGEST_PATIENCE * look_again_s
    while True:
        batches = stream(
            copy.etcd.connection, copy.prefix, start_revision=copy.revision + 1, prefix=True, progress=True
        )
        try:
            async with aclosing(batches), aclosing(_while_current(copy, batches, patience_s)) as current:
                async for batch in current:
                    patience_s = look_again_s
                    yield batch
        except _Diverged:
            return
        # The member may answer what it is asked, and yet send no events.
        copy.etcd.connection.move_on(copy.etcd.connection.endpoint)
        if patience_s >= longest_s:
            return
        # It may be slow, and would never arrive if it were opened again and again.
        patience_s = min(patience_s * 2, longest_s)


async def _while_current(
    copy: _Copy, batches: AsyncGenerator[RawBatch, None], look_again_s: float
) -> AsyncGenerator[RawBatch, None]:
    """What the watch brings; ends when it is silent although the store has changed.

    One task reads and one looks again, both as long as the watch: to wait for either anew, batch after
    batch, costs as much as all else that is done with a batch.

    :raises _Diverged: see :meth:`_Copy.is_current`.
    """
    heard: asyncio.Queue[RawBatch | None] = asyncio.Queue(1)
    silence = _Silence()

    async def read() -> None:
        async for batch in batches:
            if batch.events:
                silence.end()
            await heard.put(batch)

    async def look_again() -> None:
        while True:
            await silence.lasts(look_again_s)
            if heard.empty() and not await copy.is_current() and silence.unbroken:
                return

    def wake(_: asyncio.Task[None]) -> None:
        if heard.empty():
            heard.put_nowait(None)

    tasks = [asyncio.create_task(read()), asyncio.create_task(look_again())]
    for task in tasks:
        task.add_done_callback(wake)
    try:
        while not heard.empty() or not any(task.done() for task in tasks):
            batch = await heard.get()
            if batch is not None:
                copy.revision = max(copy.revision, batch.revision)
                if batch.events:
                    yield batch
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class _Silence:
    """How long nothing was heard."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()
        self.unbroken = False
        """Since :meth:`lasts` returned."""

    def end(self) -> None:
        self._began_at = time.monotonic()
        self.unbroken = False

    async def lasts(self, seconds: float) -> None:
        """Return once nothing was heard for so long, counted from now at the earliest."""
        began_at = self._began_at = time.monotonic()
        while (left_s := began_at + seconds - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
            began_at = self._began_at
        self.unbroken = True


def difference(state: dict[str, KeyValue], listing: RangeResult) -> tuple[Event, ...]:
    """What must have happened for ``state`` to become ``listing``: deletions first, then in order of revision."""
    found = {kv.key for kv in listing.kvs}
    events = [
        Event(EventKind.DELETED, key, None, before, listing.revision)
        for key, before in state.items()
        if key not in found
    ]
    for kv in sorted(listing.kvs, key=lambda kv: kv.mod_revision):
        before = state.get(kv.key)
        if before is None:
            events.append(Event(EventKind.CREATED, kv.key, kv, None, kv.mod_revision))
        elif before.create_revision != kv.create_revision:
            events.append(Event(EventKind.DELETED, kv.key, None, before, kv.create_revision))
            events.append(Event(EventKind.CREATED, kv.key, kv, None, kv.mod_revision))
        elif before.mod_revision != kv.mod_revision:
            events.append(Event(EventKind.UPDATED, kv.key, kv, before, kv.mod_revision))
    return tuple(events)


def _apply(state: dict[str, KeyValue], raw: RawEvent) -> Event:
    key, revision = raw.kv.key, raw.kv.mod_revision
    before = state.get(key)
    if raw.deleted:
        state.pop(key, None)
        return Event(EventKind.DELETED, key, None, before, revision)
    state[key] = raw.kv
    kind = EventKind.CREATED if raw.kv.create_revision == revision else EventKind.UPDATED
    return Event(kind, key, raw.kv, before if kind is EventKind.UPDATED else None, revision)
