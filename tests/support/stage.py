"""A client that is about to do something, and what a server has in use because of it."""

import asyncio
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Election, Leadership, Session
from tests.support.candidates import TIMING


class Stage:
    """A client that is about to do something; what it has opened is closed at the end."""

    def __init__(self, client: Etcd, outside: Etcd, prefix: str, to_close: AsyncExitStack) -> None:
        self.client = client
        self.outside = outside
        self.prefix = prefix
        self.candidacies: list[int] = []
        """Leases on which no key may be left once the operation was cancelled."""
        self._to_close = to_close

    async def session(self, client: Etcd | None = None) -> Session:
        session = await Session.open(client or self.client, TIMING)
        # A session waits a second for its lease to be revoked; a busy machine may take longer.
        self._to_close.push_async_callback(self.outside.revoke, session.lease_id)
        return await self._to_close.enter_async_context(session)

    def election(self, client: Etcd | None = None) -> Election:
        return Election.below(client or self.client, f"{self.prefix}election/")

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Somebody else's work meanwhile."""
        task = asyncio.create_task(work)
        self._to_close.push_async_callback(asyncio.wait, [task])
        self._to_close.callback(task.cancel)

    async def leadership(self) -> Leadership:
        return await self.election().campaign(await self.session(), b"leader")


@asynccontextmanager
async def staged(server: EmbeddedEtcd, prefix: str, *, through: str | None = None) -> AsyncIterator[Stage]:
    async with (
        Etcd([server.endpoint]) as outside,
        Etcd([through or server.endpoint]) as client,
        AsyncExitStack() as to_close,
    ):
        yield Stage(client, outside, prefix, to_close)


def in_use_by(server: EmbeddedEtcd) -> dict[str, int]:
    """Watches, streams and leases that the server has, in its own words."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{server.endpoint}/metrics", timeout=5) as answer:
        text = answer.read().decode()

    def total(pattern: str) -> int:
        return sum(int(float(number)) for number in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE))

    streams = r'grpc_server_{}_total\{{.*grpc_type="bidi_stream"\}}'
    return {
        "watches": total("etcd_debugging_mvcc_watcher_total"),
        "streams": total(streams.format("started")) - total(streams.format("handled")),
        "leases": total("etcd_debugging_lease_granted_total") - total("etcd_debugging_lease_revoked_total"),
    }


async def quiet(server: EmbeddedEtcd, where: str, *, but: str = "", within_s: float = 3.0) -> dict[str, int]:
    """Return, with what the server has in use, once that is nothing, ``but`` for one thing."""
    deadline = time.monotonic() + within_s
    while True:
        in_use = await asyncio.to_thread(in_use_by, server)
        if not any(in_use[what] for what in in_use.keys() - {but}):
            return in_use
        assert time.monotonic() < deadline, f"{where}: left on the server: {in_use}"
        await asyncio.sleep(0.01)
