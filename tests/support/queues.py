"""Consumers and producers of one queue on a real etcd."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from leaderjob.etcd import Etcd, KeyValue
from leaderjob.recipes import Queue, Session, Timing
from tests.support.candidates import TIMING


class Counter:
    """Where people queue: one queue, by its place."""

    def __init__(self, endpoint: str, namespace: str) -> None:
        self.endpoint = endpoint
        self.namespace = namespace
        self.root = f"/leaderjob/{namespace}/queues/q/"

    @asynccontextmanager
    async def session(
        self, *, endpoint: str | None = None, timing: Timing = TIMING
    ) -> AsyncIterator[Session]:
        async with Etcd([endpoint or self.endpoint]) as client, await Session.open(client, timing) as session:
            yield session

    def queue(self, session: Session, *, newest_first: bool = False, max_tries: int | None = None) -> Queue:
        return Queue(session, "q", namespace=self.namespace, newest_first=newest_first, max_tries=max_tries)

    @asynccontextmanager
    async def consumer(
        self,
        *,
        endpoint: str | None = None,
        timing: Timing = TIMING,
        newest_first: bool = False,
        max_tries: int | None = None,
    ) -> AsyncIterator[Queue]:
        """A queue with a session of its own."""
        async with self.session(endpoint=endpoint, timing=timing) as session:
            yield self.queue(session, newest_first=newest_first, max_tries=max_tries)

    async def keys(self, part: str) -> list[KeyValue]:
        """What is there, oldest first, without what sessions note for themselves."""
        async with Etcd([self.endpoint]) as client:
            found = (await client.range(self.root + part)).kvs
        return [kv for kv in found if not kv.key.startswith(f"{self.root}receipts/")]
