"""Somebody who follows a prefix through a proxy, and somebody who writes there, on a real server."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Batch, Delete, Etcd, EtcdUnavailable, Put, follow
from tests.property.history import Change, History
from tests.support.cuttable import Cuttable

_CATCH_UP_TIMEOUT_S = 15.0
LOOK_AGAIN_S = 0.2
"""After so long a silence the consumer looks whether it has missed anything."""


class Consumer:
    """Follows a prefix, and follows it anew where etcd could not be listed.

    ``told`` has the batches of each time that it began.
    """

    def __init__(self, client: Etcd, prefix: str, proxy: Cuttable) -> None:
        self.told: list[list[Batch]] = []
        self.reset_on_arrival = False
        self._client = client
        self._prefix = prefix
        self._proxy = proxy
        self._news = asyncio.Condition()

    async def run(self) -> None:
        while True:
            batches: list[Batch] = []
            self.told.append(batches)
            try:
                async with aclosing(
                    follow(self._client, self._prefix, look_again_s=LOOK_AGAIN_S)
                ) as following:
                    async for batch in following:
                        batches.append(batch)
                        if self.reset_on_arrival:
                            self.reset_on_arrival = False
                            self._proxy.reset()
                        async with self._news:
                            self._news.notify_all()
            except EtcdUnavailable:
                continue

    async def reached(self, revision: int) -> None:
        """Return when it was told what happened up to ``revision``."""
        async with self._news:
            await self._news.wait_for(lambda: any(self.told[-1:]) and self.told[-1][-1].revision >= revision)


@dataclass
class World:
    """A consumer behind a proxy, and a writer that nothing stands in the way of."""

    server: EmbeddedEtcd
    proxy: Cuttable
    writer: Etcd
    consumer: Consumer
    prefix: str
    history: History
    lease: int = 0
    """The one that keys are put on; 0: the next one needs a new lease."""
    refusing: bool = False
    written: int = 0

    def value(self) -> bytes:
        """One that was never written before."""
        self.written += 1
        return str(self.written).encode()

    async def write(self, *changes: Change) -> None:
        """In one revision, in this order."""
        ops = [
            Put(key, value, lease=lease) if value is not None else Delete(key)
            for key, value, lease in changes
        ]
        result = await self.writer.txn((), ops)
        self.history.record(result.revision, changes)

    async def free_the_way(self) -> None:
        self.proxy.heal()
        if self.refusing:
            self.refusing = False
            await self.proxy.accept()

    async def rest(self) -> None:
        """Make the way free, wait until the consumer knows everything, and hold it against the model."""
        await self.free_the_way()
        try:
            async with asyncio.timeout(_CATCH_UP_TIMEOUT_S):
                await self.consumer.reached(self.history.revision)
        except TimeoutError:
            raise AssertionError(f"nothing was heard of revision {self.history.revision}") from None
        for earlier in self.consumer.told[:-1]:
            assert not earlier or self.history.forgotten(earlier[-1].revision), "it gave up without need"
        for batches in self.consumer.told:
            state = self.history.check(batches)
        stored = await self.writer.range(self.prefix)
        assert state == {kv.key: kv for kv in stored.kvs}
