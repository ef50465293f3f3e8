"""The messages of a topic, in order: what is kept of them, what comes, and how many were missed.

``<root>messages/<id>`` is a message, its value nothing but what was published; an id is the time in milliseconds,
by the publisher's clock, and a random part. Their order is that of their create revisions. ``<root>messages/trimmed``
tells how many were trimmed, ever, and up to which revision; it is written by whoever trims, in the same transaction,
and never deleted. So each message has a number: those that were trimmed, and then those before it that are left.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from leaderjob.etcd import Batch, Compacted, Etcd, EventKind, KeyValue, follow
from leaderjob.recipes.record import Oddities, decode
from leaderjob.telemetry.events import Events, emit

_ID = re.compile(r"(\d{13})-[0-9a-f]{16}")
_TRIMMED = "trimmed"


@dataclass(frozen=True, slots=True)
class Message:
    """:param revision: at which it was published. :param number: its place among all that ever were, from 1 on; shifted
    where messages were deleted by hand."""

    id: str
    value: bytes
    revision: int
    number: int

    @property
    def published_at(self) -> datetime:
        """By the clock of who published it."""
        return datetime.fromtimestamp(published_ms(self.id) / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Missed:
    """Messages that were trimmed before they could be handed out.

    :param count: how many; at least 1, and too few only where messages were deleted by hand. None: nobody knows any
        more, which happens only to who replays from a revision that etcd has compacted.
    :param revision: that of the last of them. :param number: its number.
    """

    count: int | None
    revision: int
    number: int


class Position(NamedTuple):
    """How far somebody has read: up to a revision, and to how many messages. ``number`` None: nobody knows."""

    revision: int
    number: int | None


class Trimmed(NamedTuple):
    """What was trimmed so far: up to which revision, and how many."""

    up_to: int = 0
    total: int = 0

    @classmethod
    def of(cls, kv: KeyValue | None, oddities: Oddities) -> "Trimmed | None":
        """Nothing, where there is no record; None: it is damaged, which is told."""
        if kv is None:
            return cls()
        record = decode(kv, oddities, up_to=int, total=int)
        return None if record is None else cls(record["up_to"], record["total"])


class Log:
    """:param root: of the topic, with a trailing slash."""

    def __init__(self, etcd: Etcd, root: str) -> None:
        self.etcd = etcd
        self.prefix = f"{root}messages/"
        self.trimmed_key = self.prefix + _TRIMMED
        self.oddities = Oddities()

    def key(self, message_id: str) -> str:
        return self.prefix + message_id

    def trimmed(self, kv: KeyValue | None) -> Trimmed:
        """What the record says, or nothing where it is damaged."""
        return Trimmed.of(kv, self.oddities) or Trimmed()

    async def kept(self, revision: int = 0) -> tuple[tuple[KeyValue, ...], int]:
        """The messages, without their values, oldest first; and at which revision. :raises Compacted: it is gone."""
        listing = await self.etcd.range(self.prefix, revision=revision, keys_only=True)
        return tuple(kv for kv in listing.kvs if self.is_message(kv)), listing.revision

    async def position(self, *, last: int = 0) -> Position:
        """Before the last so many of those that are kept now."""
        while True:
            messages, revision = await self.kept()
            try:
                trimmed = self.trimmed(await self.etcd.get(self.trimmed_key, revision=revision))
            except Compacted:
                continue
            passed = max(0, len(messages) - last)
            if passed == len(messages):
                return Position(revision, trimmed.total + passed)
            before = messages[passed - 1].create_revision if passed else trimmed.up_to
            return Position(before, trimmed.total + passed)

    async def position_at(self, revision: int) -> Position:
        """After all that was published up to ``revision``."""
        if revision == 0:
            return Position(0, 0)
        try:
            messages, _ = await self.kept(revision)
            trimmed = self.trimmed(await self.etcd.get(self.trimmed_key, revision=revision))
        except Compacted:
            return Position(revision, None)
        return Position(revision, trimmed.total + len(messages))

    async def read(self, start: Position) -> AsyncGenerator[Message | Missed, None]:
        """What was published after ``start``, and is kept; then each message as it comes, also if it is trimmed before
        it is read, for as long as etcd has the history. What is missed is told where it would have come."""
        at = start
        async with aclosing(follow(self.etcd, self.prefix)) as batches:
            async for batch in batches:
                if batch.listed:
                    missed = self._missed(at, batch)
                    if missed is not None:
                        yield missed
                        at = Position(missed.revision, missed.number)
                    elif at.number is None:
                        at = Position(at.revision, self._number(at.revision, batch))
                floor = at.revision if batch.listed else 0
                for event in batch.events:
                    if event.now is None or not self.is_message(event.now):
                        continue
                    if event.kind is not EventKind.CREATED:
                        emit(Events.RECORD_QUARANTINED, key=event.key, reason="a message was overwritten")
                    elif event.now.create_revision > floor:
                        at = Position(event.now.create_revision, (at.number or 0) + 1)
                        yield Message(
                            event.key.removeprefix(self.prefix), event.now.value, at.revision, at.number or 0
                        )

    def _missed(self, at: Position, batch: Batch) -> Missed | None:
        """What was trimmed after ``at``, and before a listing."""
        trimmed = self._trimmed_before(batch)
        if trimmed.up_to <= at.revision:
            return None
        count = None if at.number is None else max(1, trimmed.total - at.number)
        return Missed(count, trimmed.up_to, trimmed.total)

    def _number(self, revision: int, batch: Batch) -> int:
        """How many were published up to ``revision``, of which none was trimmed later. :param batch: the first listing."""
        kept = (event.now for event in batch.events if event.now is not None and self.is_message(event.now))
        return self._trimmed_before(batch).total + sum(1 for kv in kept if kv.create_revision <= revision)

    def _trimmed_before(self, batch: Batch) -> Trimmed:
        return self.trimmed(
            next((event.now for event in batch.events if event.key == self.trimmed_key), None)
        )

    def is_message(self, kv: KeyValue) -> bool:
        """Whether it is one of ours; what is neither that nor the record of what was trimmed is told as an event,
        once."""
        name = kv.key.removeprefix(self.prefix)
        if _ID.fullmatch(name):
            return True
        if name != _TRIMMED:
            self.oddities.tell(kv, "it is not the id of a message; it is left alone")
        return False


def published_ms(message_id: str) -> int:
    """When it was published, in milliseconds since the epoch. :raises ValueError: it is no id of a message."""
    match = _ID.fullmatch(message_id)
    if match is None:
        raise ValueError(f"{message_id!r} is not the id of a message")
    return int(match[1])
