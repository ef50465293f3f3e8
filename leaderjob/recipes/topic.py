"""Topics: messages in one order for all, kept for a while, with subscriptions that continue where they stopped."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from leaderjob.errors import NotFound, SettingsError
from leaderjob.etcd import AmbiguousWrite, Etcd, Get, Put, RangeResult, absent, modified_at
from leaderjob.names import check_name
from leaderjob.recipes.arguments import check_count, is_number
from leaderjob.recipes.errors import Unsettled
from leaderjob.recipes.place import place
from leaderjob.recipes.retention import Retention
from leaderjob.recipes.settled import until_answered
from leaderjob.recipes.subscription import Subscription
from leaderjob.recipes.topic_log import Log, Message, Missed, published_ms


class Topic:
    """A topic, for publishers and subscribers alike::

        topic = Topic(etcd, "prices")
        await topic.publish(b"tea 3")
        async with aclosing(topic.subscribe(last=1)) as messages:
            print(await anext(messages))

    :param keep_count: the newest so many messages are kept; some more for a moment, see the page on topics.
    :param keep_s: and of those, the ones that are not older than so many seconds, by the clocks of those who publish.
        ``math.inf``: for ever. Who gives one of them, or both, tells it to all, by a record of the topic, with the first
        message that it publishes; the last one prevails. What it does not give stays as that record has it, or is
        :data:`~leaderjob.recipes.retention.KEEP_COUNT` messages, for ever, where nobody has given anything.
    :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.
    :raises SettingsError: nothing at all would be kept, or these are no numbers.
    """

    def __init__(
        self,
        etcd: Etcd,
        name: str,
        *,
        keep_count: int | None = None,
        keep_s: float | None = None,
        namespace: str = "default",
    ) -> None:
        self._root = place("topics", name, namespace)
        self._what = f"topic {name}"
        if keep_count is not None:
            check_count(self._what, keep_count, "messages to keep")
        if keep_s is not None and not (is_number(keep_s) and keep_s > 0):
            raise SettingsError(f"{self._what}: keep_s {keep_s!r}: a number of seconds, above 0")
        self._etcd = etcd
        self._log = Log(etcd, self._root)
        self._retention = Retention(self._log, self._root, keep_count=keep_count, keep_s=keep_s)
        self._seen: int | None = None
        """The ``mod_revision`` of the record of what was trimmed; None: not known yet."""
        self._revision = 0
        """One that is past."""

    async def publish(self, value: bytes, *, message_id: str | None = None) -> int:
        """Publish one message, once; returns its revision. Now and then, trim what need not be kept.

        :param message_id: what :class:`Unsettled` told, to find out what became of that one, or publish it now.
        :raises Unsettled: etcd did not answer for so long that it is not known whether it is published.
        :raises ValueTooLarge: the value is; nothing was sent. :raises SettingsError: that is no message's id, or that
            message has another value. :raises EtcdError: etcd does not answer, or refuses; nothing was published.
        """
        message_id = message_id or f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(8)}"
        try:
            published_ms(message_id)
        except ValueError as error:
            raise SettingsError(f"{self._what}: {error}: pass what Unsettled.message_id is") from error
        try:
            await self._retention.tell()
            revision = await self._publish(message_id, value)
        except AmbiguousWrite as error:
            raise Unsettled(self._what, message_id) from error
        await self._retention.published()
        return revision

    async def _publish(self, message_id: str, value: bytes) -> int:
        """The compare on the record of what was trimmed sees to it that a try which got no answer is never done after
        the message was trimmed; and what was trimmed tells whether this message may have been."""
        key, trimmed_key = self._log.key(message_id), self._log.trimmed_key
        if self._seen is None:
            look = await self._etcd.txn((), [Get(trimmed_key)], repeatable=True)
            self._note(look.range(0), look.revision)
        while True:
            begun = self._revision
            answer = await until_answered(
                self._etcd,
                [modified_at(trimmed_key, self._seen or 0), absent(key)],
                [Put(key, value)],
                [Get(trimmed_key), Get(key)],
            )
            result = answer.result
            if result.succeeded:
                self._revision = max(self._revision, result.revision)
                return result.revision
            self._note(result.range(0), result.revision)
            found = result.range(1).first
            if found is not None:
                if found.value != value:
                    raise SettingsError(f"{self._what}: another message has the id {message_id}")
                return found.mod_revision
            if answer.unanswered is not None and self._log.trimmed(result.range(0).first).up_to > begun:
                raise answer.unanswered  # it may have been published, and trimmed already

    def _note(self, trimmed: RangeResult, revision: int) -> None:
        seen = 0 if trimmed.first is None else trimmed.first.mod_revision
        if self._seen is not None and seen != self._seen:
            self._retention.others_trimmed()
        self._seen = seen
        self._revision = max(self._revision, revision)

    async def subscribe(
        self, *, last: int = 0, since: int | None = None
    ) -> AsyncGenerator[Message | Missed, None]:
        """Each message from now on (from when the iteration begins), in order, once. Runs until it is closed.

        :param last: begin with the last so many of those that are kept.
        :param since: or with those that were published after this revision (0: with the first one of all) and are
            kept; :class:`Missed` tells how many are not.
        :raises SettingsError: both, or a negative one. :raises EtcdError: etcd does not answer when it begins (later, it
            waits until etcd does), or refuses; a revision that is yet to come, for one.
        """
        if last < 0 or (since or 0) < 0 or (last and since is not None):
            raise SettingsError(
                f"{self._what}: last {last}, since {since}: say one of them, and nothing negative"
            )
        start = await (self._log.position(last=last) if since is None else self._log.position_at(since))
        async with aclosing(self._log.read(start)) as messages:
            async for message in messages:
                yield message

    async def subscription(self, name: str, *, last: int = 0) -> Subscription:
        """A subscription that continues where it stopped; made if there is none of that name.

        :param last: one that is made begins with the last so many messages that are kept.
        :raises InvalidName: the name cannot be part of a key. :raises SettingsError: a negative number.
        :raises UnreadableRecord: its cursor is not one. :raises EtcdError: etcd does not answer, or refuses.
        """
        if last < 0:
            raise SettingsError(f"{self._what}: last {last}: a number of messages is not negative")
        return await Subscription.open(self._log, self._root, check_name("subscription", name), last=last)

    async def unsubscribe(self, name: str) -> None:
        """Remove a subscription. One whose making raised :class:`AmbiguousWrite` may still be made after this.

        :raises NotFound: there is none. :raises EtcdError: etcd does not answer, or refuses."""
        key = f"{self._root}subscriptions/{check_name('subscription', name)}"
        if await self._etcd.get(key) is None:
            raise NotFound(f"{self._what} has no subscription {name}; nothing was changed")
        await self._etcd.delete(key, repeatable=True)

    async def trim(self) -> int:
        """Trim what need not be kept, now; returns how many messages. Publishers do it by themselves: this is for a topic
        to which nobody publishes any more. :raises EtcdError: etcd does not answer, or refuses."""
        return await self._retention.trim()

    async def remove(self) -> int:
        """Delete its messages, its subscriptions, and what was told of how much to keep; returns how many messages.

        Two small records stay, so that no publication which is under way still can bring a message back: to what is
        published later, it is an empty topic. That is promised for messages alone: how much to keep, or a new
        subscription, told by somebody who got no answer, may still be written after this. Nobody should be publishing.
        Who is reading goes on; a named subscription is told that it was removed when it next moves its cursor.

        :raises NotFound: there is no such topic. :raises UnreadableRecord: that of what was trimmed is none.
        :raises EtcdError: etcd does not answer, or refuses; it may be done in part, and may be called again.
        """
        subscriptions = f"{self._root}subscriptions/"
        messages, _ = await self._log.kept()
        if not messages and not (await self._etcd.range(subscriptions, keys_only=True)).kvs:
            raise NotFound(f"{self._what} has neither messages nor subscriptions; nothing was changed")
        trimmed = await self._retention.trim_all(self._what)
        await self._etcd.delete(subscriptions, prefix=True, repeatable=True)
        return trimmed
