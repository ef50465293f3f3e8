"""A prefix, followed: its state first, then each change, across reconnects and compactions.

After a compaction there is no history to resume from: the prefix is listed again, and the consumer
sees the difference between the old and the new state as events. State, not silence.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from leaderjob.etcd.client import Etcd
from leaderjob.etcd.errors import Compacted
from leaderjob.etcd.values import KeyValue, RangeResult
from leaderjob.etcd.watch import RawEvent, watch


class EventKind(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Event:
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


async def follow(etcd: Etcd, prefix: str) -> AsyncGenerator[Batch, None]:
    """The keys below ``prefix`` as creations (one batch, perhaps empty), then what happens to them.

    Runs until it is closed. :raises EtcdError: etcd cannot be listed.
    """
    state: dict[str, KeyValue] = {}
    while True:
        listing = await etcd.range(prefix)
        yield Batch(difference(state, listing), listing.revision, listed=True)
        state = {kv.key: kv for kv in listing.kvs}
        raw_batches = watch(etcd.connection, prefix, start_revision=listing.revision + 1, prefix=True)
        try:
            async with aclosing(raw_batches):
                async for raw in raw_batches:
                    yield Batch(
                        tuple(_apply(state, event) for event in raw.events), raw.revision, listed=False
                    )
        except Compacted:
            continue


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
