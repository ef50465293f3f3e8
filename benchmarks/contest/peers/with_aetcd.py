"""``aetcd``: the same transport (grpc.aio) and messages, another client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aetcd  # type: ignore[import-not-found]

from contest.peers.in_a_loop import AsyncClient, answer_turns
from contest.peers.tally import Told
from contest.turns import TIMEOUT_S


class WithAetcd:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def get(self, key: str) -> bytes:
        found = await self._client.get(key.encode())
        if found is None:
            raise LookupError(key)
        value: bytes = found.value
        return value

    async def put(self, key: str, value: bytes) -> None:
        await self._client.put(key.encode(), value)

    async def txn(self, fence: str, fence_revision: int, key: str, value: bytes) -> bool:
        ask = self._client.transactions
        succeeded, _ = await self._client.transaction(
            compare=[ask.create(fence.encode()) == fence_revision],
            success=[ask.put(key.encode(), value)],
            failure=[ask.get(fence.encode())],
        )
        return bool(succeeded)

    async def watch(self, prefix: str, since: int, told: Told) -> None:
        events = await self._client.watch_prefix(prefix.encode(), start_revision=since + 1, prev_kv=True)
        try:
            async for event in events:
                if told(event.kv.value, event.prev_kv.value):
                    return
        finally:
            await events.cancel()


@asynccontextmanager
async def connect(host: str, port: int) -> AsyncIterator[AsyncClient]:
    options = {"grpc.enable_http_proxy": 0, "grpc.max_receive_message_length": -1}
    async with aetcd.Client(host, port, timeout=TIMEOUT_S, options=options) as client:
        yield WithAetcd(client)


if __name__ == "__main__":
    answer_turns(connect)
