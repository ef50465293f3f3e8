"""How much of a topic is kept, and who trims the rest: its publishers, now and then."""

import itertools
import time

from leaderjob.clock import boottime
from leaderjob.etcd import Delete, EtcdError, KeyValue, Op, Put, created_at, modified_at
from leaderjob.recipes.record import decode, encode
from leaderjob.recipes.topic_log import Log, Trimmed, published_ms
from leaderjob.telemetry.events import Events, emit

TRIM_EVERY_S = 1.0
TRIM_EVERY = 100
"""A publisher trims after so many seconds or so many messages of its own, whatever comes first."""
_AT_ONCE = 120
"""More than :data:`TRIM_EVERY`, so that what is trimmed keeps up with what is published; etcd takes 128 operations."""
_ROUNDS = 10


class Retention:
    """:param keep_count: the newest so many messages are kept. :param keep_s: and of those, the ones that are not older."""

    def __init__(self, log: Log, *, keep_count: int, keep_s: float | None) -> None:
        self._log = log
        self._keep_count = keep_count
        self._keep_s = keep_s
        self._due_at = 0.0
        self._published = 0
        self._trimming = False

    def others_trimmed(self) -> None:
        """Then there is no hurry."""
        self._due_at = boottime() + TRIM_EVERY_S

    async def published(self) -> None:
        """Count a message, and trim if it is time to. That the message is published stands, whatever comes of it."""
        self._published += 1
        if self._trimming or (self._published < TRIM_EVERY and boottime() < self._due_at):
            return
        try:
            await self.trim(rounds=_ROUNDS)
        except EtcdError as error:
            # Others will do it, or this one later; one that is done late trims what was to be trimmed.
            emit(Events.CONNECTION_TROUBLE, reason=error)

    async def trim(self, *, rounds: int | None = None) -> int:
        """Trim what need not be kept; returns how many messages.

        :param rounds: of :data:`_AT_ONCE` messages each, at most. :raises EtcdError: etcd does not answer, or refuses."""
        self._trimming = True
        try:
            self._published = 0
            trimmed = 0
            for _ in itertools.count() if rounds is None else range(rounds):
                some = await self._trim_some()
                trimmed += some
                if some < _AT_ONCE:
                    break
            return trimmed
        finally:
            self._due_at = boottime() + TRIM_EVERY_S
            self._trimming = False

    async def _trim_some(self) -> int:
        log = self._log
        record = await log.etcd.get(log.trimmed_key)
        if record is not None and decode(record, up_to=int, total=int) is None:
            return 0  # told as an event; whoever counts on it must not be told anything wrong
        messages, _ = await log.kept()
        doomed = self._doomed(messages)[:_AT_ONCE]
        if not doomed:
            return 0
        up_to = max(kv.create_revision for kv in doomed)
        total = Trimmed.of(record).total + len(doomed)
        seen = 0 if record is None else record.mod_revision
        ops: list[Op] = [Put(log.trimmed_key, encode(up_to=up_to, total=total))]
        result = await log.etcd.txn(
            [modified_at(log.trimmed_key, seen), *(created_at(kv.key, kv.create_revision) for kv in doomed)],
            [*ops, *(Delete(kv.key) for kv in doomed)],
        )
        return len(doomed) if result.succeeded else 0

    def _doomed(self, messages: tuple[KeyValue, ...]) -> tuple[KeyValue, ...]:
        """Always the oldest, without a gap: so what was trimmed is told by where it ends."""
        count = max(0, len(messages) - self._keep_count)
        if self._keep_s is not None:
            oldest_ms = (time.time() - self._keep_s) * 1000
            prefix = len(self._log.prefix)
            while count < len(messages) and published_ms(messages[count].key[prefix:]) < oldest_ms:
                count += 1
        return messages[:count]
