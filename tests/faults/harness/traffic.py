"""Who writes and who watches while something breaks, and what must be true of both afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from leaderjob.etcd import AmbiguousWrite, Etcd, EtcdUnavailable, follow


class Writer:
    """Writes one number after the other, each to a key of its own, and goes on whatever happens.

    :ivar acknowledged: revisions of the writes that were answered, by key.
    """

    def __init__(self, client: Etcd, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._progress = asyncio.Condition()
        self._answered_at = time.monotonic()
        self.acknowledged: dict[str, int] = {}
        self.longest_pause_s = 0.0
        """Between two answers."""

    async def run(self) -> None:
        number = 0
        self._answered_at = time.monotonic()
        while True:
            key = f"{self._prefix}{number:06}"
            number += 1
            try:
                self.acknowledged[key] = await self._client.put(key, str(number).encode())
            except (AmbiguousWrite, EtcdUnavailable):
                continue
            now = time.monotonic()
            self.longest_pause_s = max(self.longest_pause_s, now - self._answered_at)
            self._answered_at = now
            async with self._progress:
                self._progress.notify_all()
            await asyncio.sleep(0.005)

    async def more(self, count: int) -> None:
        """Return when so many more writes were answered."""
        wanted = len(self.acknowledged) + count
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.acknowledged) >= wanted)


class Recorder:
    """Follows a prefix, and keeps what it is told, in order: key, revision."""

    def __init__(self, client: Etcd, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._progress = asyncio.Condition()
        self.seen: list[tuple[str, int]] = []
        self.revision = 0
        self.listings = 0
        """How often it was told a state, or the difference to one, instead of what had happened."""

    async def run(self) -> None:
        async with aclosing(follow(self._client, self._prefix)) as batches:
            async for batch in batches:
                self.listings += batch.listed
                self.seen.extend((event.key, event.revision) for event in batch.events)
                async with self._progress:
                    self.revision = batch.revision
                    self._progress.notify_all()

    async def until(self, revision: int) -> None:
        """Return when everything up to that revision was told."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.revision >= revision)

    async def missed_nothing_of(self, writer: Writer) -> None:
        """Wait for what was answered so far; each was told once, and in order."""
        written = dict(writer.acknowledged)
        await self.until(max(written.values()))
        revisions = [revision for _, revision in self.seen]
        assert revisions == sorted(set(revisions)), "told twice, or out of order"
        told = dict(self.seen)
        missed = {key for key, revision in written.items() if told.get(key) != revision}
        assert not missed, f"never told: {sorted(missed)[:5]} and so on, {len(missed)} in all"


@asynccontextmanager
async def writing(endpoints: Sequence[str], prefix: str = "/traffic/") -> AsyncIterator[Writer]:
    """A writer at work, until the end."""
    async with Etcd(endpoints) as client:
        writer = Writer(client, prefix)
        async with _beside(writer.run()):
            await writer.more(1)
            yield writer


@asynccontextmanager
async def recording(endpoints: Sequence[str], prefix: str = "/traffic/") -> AsyncIterator[Recorder]:
    """A recorder at work, until the end."""
    async with Etcd(endpoints) as client:
        recorder = Recorder(client, prefix)
        async with _beside(recorder.run()):
            await recorder.until(1)
            yield recorder


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()
