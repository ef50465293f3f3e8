"""The limit: the generated stubs on one channel of grpc.aio, and no client around them.

The same requests with the same deadline and metadata as leaderjob's, the same options of the channel, and of the
answer only what was asked for is looked at. No failover, no resumption, no errors of its own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from etcd3.etcdrpc import KVStub, WatchStub, rpc_pb2

from contest.peers.in_a_loop import AsyncClient, answer_turns
from contest.peers.tally import Told
from contest.turns import TIMEOUT_S

rpc: Any = rpc_pb2

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
)
_HAS_LEADER = (("hasleader", "true"),)


class WithBareStubs:
    def __init__(self, channel: Any) -> None:
        self._kv = KVStub(channel)
        self._watch = WatchStub(channel)

    async def get(self, key: str) -> bytes:
        request = rpc.RangeRequest(key=key.encode())
        response = await self._kv.Range(request, timeout=TIMEOUT_S, metadata=())
        value: bytes = response.kvs[0].value
        return value

    async def put(self, key: str, value: bytes) -> None:
        request = rpc.PutRequest(key=key.encode(), value=value)
        await self._kv.Put(request, timeout=TIMEOUT_S, metadata=())

    async def txn(self, fence: str, fence_revision: int, key: str, value: bytes) -> bool:
        compare = rpc.Compare(
            result=rpc.Compare.EQUAL,
            target=rpc.Compare.CREATE,
            key=fence.encode(),
            create_revision=fence_revision,
        )
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=key.encode(), value=value))
        get = rpc.RequestOp(request_range=rpc.RangeRequest(key=fence.encode()))
        request = rpc.TxnRequest(compare=[compare], success=[put], failure=[get])
        response = await self._kv.Txn(request, timeout=TIMEOUT_S, metadata=())
        return bool(response.succeeded)

    async def watch(self, prefix: str, since: int, told: Told) -> None:
        create = rpc.WatchCreateRequest(
            key=prefix.encode(),
            range_end=prefix[:-1].encode() + bytes([ord(prefix[-1]) + 1]),
            start_revision=since + 1,
            progress_notify=True,
            prev_kv=True,
        )
        call = self._watch.Watch(metadata=_HAS_LEADER)
        await call.write(rpc.WatchRequest(create_request=create))
        try:
            while True:
                response = await call.read()
                for event in response.events:
                    if told(event.kv.value, event.prev_kv.value):
                        return
        finally:
            call.cancel()


@asynccontextmanager
async def connect(host: str, port: int) -> AsyncIterator[AsyncClient]:
    async with grpc.aio.insecure_channel(f"{host}:{port}", options=_OPTIONS) as channel:
        yield WithBareStubs(channel)


if __name__ == "__main__":
    answer_turns(connect)
