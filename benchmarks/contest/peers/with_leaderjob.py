"""leaderjob's own client."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from contest.peers.in_a_loop import AsyncClient, answer_turns
from contest.peers.tally import Told
from contest.turns import TIMEOUT_S
from leaderjob.etcd import Compare, Etcd, Get, Put, watch


class WithLeaderjob:
    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    async def get(self, key: str) -> bytes:
        found = await self._etcd.get(key)
        if found is None:
            raise LookupError(key)
        return found.value

    async def put(self, key: str, value: bytes) -> None:
        await self._etcd.put(key, value)

    async def txn(self, fence: str, fence_revision: int, key: str, value: bytes) -> bool:
        compare = Compare(fence, "create_revision", "=", fence_revision)
        result = await self._etcd.txn([compare], [Put(key, value)], [Get(fence)])
        return result.succeeded

    async def watch(self, prefix: str, since: int, told: Told) -> None:
        async with aclosing(watch(self._etcd, prefix, since=since)) as events:
            async for event in events:
                if event.now is not None and told(
                    event.now.value, event.before.value if event.before is not None else None
                ):
                    return


@asynccontextmanager
async def connect(host: str, port: int) -> AsyncIterator[AsyncClient]:
    async with Etcd([f"{host}:{port}"], call_timeout_s=TIMEOUT_S) as etcd:
        yield WithLeaderjob(etcd)


if __name__ == "__main__":
    answer_turns(connect)
