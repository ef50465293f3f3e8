"""A subscription by name: a cursor in etcd, that is moved after messages were handled."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing

from leaderjob.etcd import Get, KeyValue, Op, Put, modified_at
from leaderjob.recipes.errors import SubscriptionLost, UnreadableRecord
from leaderjob.recipes.record import decode, encode
from leaderjob.recipes.settled import until_answered
from leaderjob.recipes.topic_log import Log, Message, Missed, Position

_LAST_MADE = "last-subscription"
"""Beside the cursors: whoever makes one writes this too, and compares it, so that one whose making got no answer is not
made again after it was removed."""


class Subscription:
    """Hands out each message at least once: again, where it was not :meth:`handled` when its reader ended.

    ::

        billing = await topic.subscription("billing")
        async with aclosing(billing.messages()) as messages:
            async for message in messages:
                ...
                await billing.handled(message)

    One at a time may read by it. Who moves its cursor while another one reads takes it over: the other one is told when
    it next moves the cursor.
    """

    def __init__(self, log: Log, what: str, key: str, cursor: KeyValue) -> None:
        self._log = log
        self._what = what
        self._key = key
        self._reader = secrets.token_hex(8)
        self._seen = cursor.mod_revision
        self._at = _position(cursor, what)

    @classmethod
    async def open(cls, log: Log, root: str, name: str, *, last: int) -> "Subscription":
        """Find it, or make it; see :meth:`Topic.subscription`."""
        key, beside = f"{root}subscriptions/{name}", root + _LAST_MADE
        what = f"subscription {name}"
        while True:
            look = await log.etcd.txn((), [Get(key), Get(beside)], repeatable=True)
            found, last_made = look.range(0).first, look.range(1).first
            if found is not None:
                return cls(log, what, key, found)
            start = await log.position(last=last)
            value = encode(revision=start.revision, number=start.number, reader="")
            ops: list[Op] = [Put(key, value), Put(beside, encode(name=name, by=secrets.token_hex(8)))]
            seen = 0 if last_made is None else last_made.mod_revision
            compares = [modified_at(beside, seen), modified_at(key, 0)]
            await until_answered(log.etcd, compares, ops, [])

    async def messages(self) -> AsyncGenerator[Message | Missed, None]:
        """What was not handled yet, then each message as it comes; in order. Runs until it is closed.

        :raises EtcdError: etcd does not answer when it begins (later, it waits until etcd does), or refuses.
        """
        async with aclosing(self._log.read(self._at)) as messages:
            async for message in messages:
                yield message

    async def handled(self, item: Message | Missed) -> None:
        """Move the cursor past ``item``, and all before it. What it is past already is no error, and changes nothing.

        :raises SubscriptionLost: another one reads by this subscription, or removed it.
        :raises AmbiguousWrite: etcd did not answer for long. Call it again, for this one or a later one.
        :raises EtcdError: etcd does not answer, or refuses; nothing was moved.
        """
        if item.revision <= self._at.revision:
            return
        at = Position(item.revision, item.number)
        value = encode(revision=at.revision, number=at.number, reader=self._reader)
        while True:
            answer = await until_answered(
                self._log.etcd,
                [modified_at(self._key, self._seen)],
                [Put(self._key, value)],
                [Get(self._key)],
            )
            if answer.result.succeeded:
                self._seen, self._at = answer.result.revision, at
                return
            found = answer.result.range(0).first
            if found is None:
                raise SubscriptionLost(self._what, "was removed")
            record = decode(found, revision=int, number=int, reader=str)
            if record is None or record["reader"] != self._reader:
                raise SubscriptionLost(self._what, "was moved on by another reader")
            self._seen = found.mod_revision
            if record["revision"] >= at.revision:  # by this very write, or by a later one that was quicker
                self._at = Position(record["revision"], record["number"])
                return


def _position(cursor: KeyValue, what: str) -> Position:
    record = decode(cursor, revision=int, number=int, reader=str)
    if record is None:
        raise UnreadableRecord(what, cursor.key)
    return Position(record["revision"], record["number"])
