"""A watch as a consumer wants it: event after event, whatever happens to connections and history."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from leaderjob.etcd.client import Etcd
from leaderjob.etcd.mirror import Event, follow


async def watch(etcd: Etcd, prefix: str, *, since: int = 0) -> AsyncGenerator[Event, None]:
    """Each creation, update and deletion below ``prefix``, with what was there before::

        async with aclosing(watch(etcd, "prices/")) as events:
            async for event in events:
                print(event.kind, event.key, event.before, event.now)

    None is lost and none comes twice, across connections and members of etcd. Where etcd has compacted what
    came next away, or was restored, or tells nothing of it for minutes, the events are the difference between the
    state that was told last and the state that is.

    Runs until it is closed. Keeps a copy of what is below the prefix.

    :param since: tell what happened after this revision (a write returns its own); 0: after the first step of
        the iteration has begun.
    :raises Compacted: what happened after ``since`` is no longer there.
    :raises EtcdUnavailable: etcd cannot be listed when it begins. :raises EtcdError: it refuses to be listed, then or
        later.
    """
    async with aclosing(follow(etcd, prefix, since=since)) as batches:
        await anext(batches)
        async for batch in batches:
            for event in batch.events:
                yield event
