"""How much of a topic is kept, and who trims the rest: its publishers, now and then.

How much is told in a record of the topic, by whoever asks for something, so that who asks for nothing trims for nobody
what others want kept.
"""

import itertools
import math
import time
from typing import NamedTuple

from leaderjob.clock import boottime
from leaderjob.etcd import Delete, EtcdError, Get, KeyValue, Op, Put, created_at, modified_at
from leaderjob.recipes.errors import UnreadableRecord
from leaderjob.recipes.record import Oddities, decode, encode
from leaderjob.recipes.settled import until_answered
from leaderjob.recipes.topic_log import Log, Trimmed, published_ms
from leaderjob.telemetry.events import Events, emit

KEEP_COUNT = 1000
TRIM_EVERY_S = 1.0
TRIM_EVERY = 100
"""A publisher trims after so many seconds or so many messages of its own, whatever comes first."""
_AT_ONCE = 120
"""More than :data:`TRIM_EVERY`, so that what is trimmed keeps up with what is published; etcd takes 128 operations."""
_ROUNDS = 10


class Keep(NamedTuple):
    """The newest so many ``messages`` are kept; and of those, the ones that are not older than ``seconds``."""

    messages: int = KEEP_COUNT
    seconds: float | None = None

    @classmethod
    def of(cls, kv: KeyValue | None, oddities: Oddities) -> "Keep | None":
        """What a record asks for, or what is kept without one; None: it is damaged, which is told as an event."""
        if kv is None:
            return cls()
        record = decode(kv, oddities, messages=int, seconds=(int, float, type(None)))
        if record is None:
            return None
        keep = cls(record["messages"], record["seconds"])
        if keep.is_something:
            return keep
        oddities.tell(kv, f"{keep} would keep nothing")
        return None

    @property
    def is_something(self) -> bool:
        return self.messages > 0 and (self.seconds is None or self.seconds > 0)


_NOTHING = Keep(messages=0)


class Retention:
    """:param root: of the topic, with a trailing slash. :param keep_count: how many messages to keep, and
    :param keep_s: for how long; None: as others asked for."""

    def __init__(self, log: Log, root: str, *, keep_count: int | None, keep_s: float | None) -> None:
        self._log = log
        self._key = f"{root}keep"
        self._keep_count = keep_count
        self._keep_s = keep_s
        self._is_told = keep_count is None and keep_s is None
        self._due_at = 0.0
        self._published = 0
        self._trimming = False

    async def tell(self) -> None:
        """Let all go by what is asked for here, from now on; once.

        :raises AmbiguousWrite: etcd did not answer for long. :raises EtcdError: etcd does not answer, or refuses.
        """
        if self._is_told:
            return
        etcd = self._log.etcd
        while True:
            found = await etcd.get(self._key)
            keep = self._asked(Keep.of(found, self._log.oddities) or Keep())
            value = encode(messages=keep.messages, seconds=keep.seconds)
            if found is not None and found.value == value:
                break
            seen = 0 if found is None else found.mod_revision
            answer = await until_answered(etcd, [modified_at(self._key, seen)], [Put(self._key, value)], [])
            if answer.result.succeeded:
                break
        self._is_told = True

    def _asked(self, before: Keep) -> Keep:
        """What is asked for here; half of it may be what others asked for before."""
        messages = before.messages if self._keep_count is None else self._keep_count
        seconds = before.seconds if self._keep_s is None else self._keep_s
        return Keep(messages, None if seconds == math.inf else seconds)

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
        await self.tell()
        self._trimming = True
        try:
            self._published = 0
            trimmed = 0
            for _ in itertools.count() if rounds is None else range(rounds):
                some = await self._trim_some()
                trimmed += some or 0
                if (some or 0) < _AT_ONCE:
                    break
            return trimmed
        finally:
            self._due_at = boottime() + TRIM_EVERY_S
            self._trimming = False

    async def trim_all(self, what: str) -> int:
        """Trim all that there is now, whoever wants it kept, and forget that they do; returns how many messages.

        :raises UnreadableRecord: that of what was trimmed is none. :raises EtcdError: etcd does not answer, or refuses."""
        trimmed = 0
        _, begun = await self._log.kept()
        while True:
            some = await self._trim_some(_NOTHING)
            if some is None:
                raise UnreadableRecord(what, self._log.trimmed_key)
            trimmed += some
            left, _ = await self._log.kept()
            if not left or left[0].create_revision > begun:
                await self._log.etcd.delete(self._key, repeatable=True)
                return trimmed

    async def _trim_some(self, keep: Keep | None = None) -> int | None:
        """How many it trimmed. None: a record is damaged, and nobody must be told, or lose, anything for that.

        :param keep: this, and not what the topic's record says."""
        log = self._log
        look = await log.etcd.txn((), [Get(log.trimmed_key), Get(self._key)], repeatable=True)
        record, asked = look.range(0).first, look.range(1).first
        trimmed = Trimmed.of(record, log.oddities)
        keep = keep or Keep.of(asked, log.oddities)
        if trimmed is None or keep is None:
            return None
        messages, _ = await log.kept()
        doomed = self._doomed(messages, keep)[:_AT_ONCE]
        if not doomed:
            return 0
        up_to = max(kv.create_revision for kv in doomed)
        total = trimmed.total + len(doomed)
        ops: list[Op] = [Put(log.trimmed_key, encode(up_to=up_to, total=total))]
        result = await log.etcd.txn(
            [
                modified_at(log.trimmed_key, 0 if record is None else record.mod_revision),
                modified_at(self._key, 0 if asked is None else asked.mod_revision),
                *(created_at(kv.key, kv.create_revision) for kv in doomed),
            ],
            [*ops, *(Delete(kv.key) for kv in doomed)],
        )
        return len(doomed) if result.succeeded else 0

    def _doomed(self, messages: tuple[KeyValue, ...], keep: Keep) -> tuple[KeyValue, ...]:
        """Always the oldest, without a gap: so what was trimmed is told by where it ends."""
        count = max(0, len(messages) - keep.messages)
        if keep.seconds is not None:
            oldest_ms = (time.time() - keep.seconds) * 1000
            prefix = len(self._log.prefix)
            while count < len(messages) and published_ms(messages[count].key[prefix:]) < oldest_ms:
                count += 1
        return messages[:count]
