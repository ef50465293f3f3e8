"""What all contestants find in the store, and who writes what their watches are to tell: the bare stubs, in the
benchmark's own process, for everybody alike."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc.aio
from etcd3.etcdrpc import KVStub, rpc_pb2

from contest.turns import HELLO, KEYS, TIMEOUT_S, VALUE_BYTES, key, stamped

rpc: Any = rpc_pb2

FENCE = "bench/fence"
HISTORY = "bench/history/"
FLOODED = "bench/flooded/"
PROBED = "bench/probed/"

_HISTORY_PUTS = 10
_FLOOD_PUTS = 100
_IN_FLIGHT = 4
_GREETING_PAUSE_S = 0.02
_PROBE_PAUSE_S = 0.002


class Stage:
    """Made by :meth:`set_up`.

    :param fence_revision: at which the key ``FENCE`` was created.
    :param history_since: the revision before the first event of the history.
    """

    def __init__(self, kv: Any) -> None:
        self._kv = kv
        self.fence_revision = 0
        self.history_since = 0

    @classmethod
    @asynccontextmanager
    async def set_up(cls, endpoint: str, *, history_events: int) -> AsyncIterator[Self]:
        """Write the fence, the keys that are read, and a history to replay.

        Ten of its events share a revision: etcd sends at most a thousand revisions each tenth of a second to a
        watcher that catches up, and we are not here to measure that.
        """
        options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.insecure_channel(endpoint, options=options) as channel:
            stage = cls(KVStub(channel))
            stage.fence_revision = await stage.put(FENCE, b"")
            for number in range(KEYS):
                await stage.put(key("get", number), b"." * VALUE_BYTES)
            stage.history_since = await stage.put(FENCE, b"")
            await stage._put_many(HISTORY, history_events, in_one=_HISTORY_PUTS)
            yield stage

    async def put(self, key: str, value: bytes) -> int:
        """Returns the revision."""
        response = await self._kv.Put(rpc.PutRequest(key=key.encode(), value=value), timeout=TIMEOUT_S)
        return int(response.header.revision)

    async def get(self, key: str) -> None:
        """The round trip that others are measured by."""
        await self._kv.Range(rpc.RangeRequest(key=key.encode()), timeout=TIMEOUT_S, metadata=())

    async def greet(self, prefix: str, until: asyncio.Future[None]) -> None:
        """Put greetings below ``prefix`` until somebody heard one."""
        while not until.done():
            await self.put(f"{prefix}hello", HELLO)
            await asyncio.wait([until], timeout=_GREETING_PAUSE_S)

    async def probe(self, count: int) -> None:
        """Put ``count`` stamped values below ``PROBED``, each when the one before was acknowledged long ago."""
        for number in range(count):
            await asyncio.sleep(_PROBE_PAUSE_S)
            await self.put(f"{PROBED}{number % 10}", stamped(time.monotonic()))

    async def flood(self, count: int) -> None:
        """Put ``count`` values below ``FLOODED``, many in each transaction, so that it is the watcher who is slow."""
        await self._put_many(FLOODED, count, in_one=_FLOOD_PUTS)

    async def _put_many(self, prefix: str, count: int, *, in_one: int) -> None:
        """``in_one`` transaction so many, and some of those in flight."""
        beginnings = iter(range(0, count, in_one))
        value = b"." * VALUE_BYTES

        async def transactions() -> None:
            for first in beginnings:
                puts = [
                    rpc.RequestOp(
                        request_put=rpc.PutRequest(key=f"{prefix}{number % KEYS:04d}".encode(), value=value)
                    )
                    for number in range(first, min(first + in_one, count))
                ]
                await self._kv.Txn(rpc.TxnRequest(success=puts), timeout=TIMEOUT_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(_IN_FLIGHT):
                group.create_task(transactions())
