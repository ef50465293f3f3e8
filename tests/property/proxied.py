"""A client of etcd behind a proxy of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from leaderjob.etcd import Etcd
from tests.support.cuttable import Cuttable

_ARRIVAL_S = 0.02

_Client = TypeVar("_Client", bound=Etcd)


@asynccontextmanager
async def proxied(
    endpoint: str, connect: Callable[[list[str]], _Client]
) -> AsyncIterator[tuple[Cuttable, _Client]]:
    async with Cuttable(endpoint) as proxy:
        try:
            async with connect([proxy.endpoint]) as client:
                yield proxy, client
        finally:
            # What the client was opening when it was closed is accepted by now, and ends before the proxy does.
            await asyncio.sleep(_ARRIVAL_S)
