"""What is below a prefix, at one revision after the other."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from itertools import groupby
from typing import NamedTuple

from leaderjob.etcd import Etcd, KeyValue, follow


class Moment(NamedTuple):
    """What is below a prefix at ``revision``: by the part of the key after the prefix. Valid until the next one."""

    keys: Mapping[str, KeyValue]
    revision: int


async def moments(etcd: Etcd, prefix: str) -> AsyncGenerator[Moment, None]:
    """What is there now, then what is there after each revision that changes something.

    A batch of a watch can have several revisions. Who looked only at the end of a batch would not see what held in
    the middle of it, and who looked after each event would see what held at no revision. After a compaction the
    revisions that nobody can tell of any more are left out.

    Runs until it is closed. :raises EtcdError: see :func:`leaderjob.etcd.follow`.
    """
    keys: dict[str, KeyValue] = {}
    async with aclosing(follow(etcd, prefix)) as batches:
        async for batch in batches:
            for revision, events in groupby(batch.events, lambda event: event.revision):
                for event in events:
                    keys.pop(event.key.removeprefix(prefix), None)
                    if event.now is not None:
                        keys[event.key.removeprefix(prefix)] = event.now
                if not batch.listed:
                    yield Moment(keys, revision)
            if batch.listed:
                yield Moment(keys, batch.revision)
