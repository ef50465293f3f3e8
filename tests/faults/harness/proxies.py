"""Members on loopback: proxies before their ports, for whoever is not root.

All members have the same address, so a proxy before a peer port tells who connects by what etcd says of
itself in the first request (``X-Server-From``), and leads each to a cuttable way of its own.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

from leaderjob.embedded.ports import free_ports
from tests.faults.harness.link import Addresses
from tests.support.cuttable import Cuttable

_CHUNK_BYTES = 64 * 1024
_FROM = re.compile(rb"^X-Server-From: ([0-9a-f]+)\r$", re.MULTILINE | re.IGNORECASE)


class PeerPort:
    """What other members find at a member's peer address: for each of them a way of its own."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._ways: dict[int, Cuttable] = {}
        self._listener: asyncio.Server | None = None
        self._stack = AsyncExitStack()
        self._making = asyncio.Lock()
        self._connected: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        await self._stack.aclose()
        for writer in self._connected:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)

    @property
    def endpoint(self) -> str:
        assert self._listener is not None
        return f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def way_from(self, member_id: int) -> Cuttable:
        """The way of the member with that id; 0: of whoever does not say who it is."""
        async with self._making:
            if member_id not in self._ways:
                self._ways[member_id] = await self._stack.enter_async_context(Cuttable(self._server))
            return self._ways[member_id]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connected.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                found = _FROM.search(head)
                way = await self.way_from(int(found[1], 16) if found else 0)
                host, _, port = way.endpoint.rpartition(":")
                answers, requests = await asyncio.open_connection(host, int(port))
                requests.write(head)
                await _first_to_end(_pump(reader, requests), _pump(answers, writer))
                requests.transport.abort()
        finally:
            writer.transport.abort()
            self._connected.discard(writer)
            self._tasks.discard(task)


async def _first_to_end(*pumps: Coroutine[Any, Any, None]) -> None:
    """A connection that ends on one side ends on the other."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


class ProxyLink:
    """A :class:`Link` of cuttable ways.

    :param clients: before the port for clients. :param ports: those of all members, by name.
    :param ids: of all members, by name; filled once they are known.
    """

    within: Sequence[str] = ()
    unhurt_source: str | None = None

    def __init__(
        self,
        name: str,
        addresses: Addresses,
        clients: Cuttable,
        ports: Mapping[str, PeerPort],
        ids: Mapping[str, int],
    ) -> None:
        self.addresses = addresses
        self._name, self._clients, self._ports, self._ids = name, clients, ports, ids
        self._refusing: list[Cuttable] = []

    async def cut(
        self, *, clients: bool = True, peers: bool = True, sending: bool = True, hearing: bool = True
    ) -> None:
        for way in [self._clients] * clients + (await self._inward()) * peers:
            way.cut(requests=hearing, answers=sending)
        for way in (await self._outward()) * peers:
            way.cut(requests=sending, answers=hearing)

    async def reject(self, *, clients: bool = True, peers: bool = True) -> None:
        for way in [self._clients] * clients + [*await self._inward(), *await self._outward()] * peers:
            if way not in self._refusing:
                self._refusing.append(way)
                await way.refuse()

    async def heal(self) -> None:
        for way in (self._clients, *await self._inward(), *await self._outward()):
            way.heal()
        while self._refusing:
            await self._refusing.pop().accept()

    async def _inward(self) -> list[Cuttable]:
        """From the other members to this one."""
        others = [member_id for name, member_id in self._ids.items() if name != self._name]
        return [await self._ports[self._name].way_from(member_id) for member_id in others]

    async def _outward(self) -> list[Cuttable]:
        """From this member to the others."""
        others = [port for name, port in self._ports.items() if name != self._name]
        return [await port.way_from(self._ids[self._name]) for port in others]


@asynccontextmanager
async def proxy_links(names: Sequence[str], ids: Mapping[str, int]) -> AsyncIterator[dict[str, ProxyLink]]:
    """:param ids: of the members by their names, filled before anything is cut between them."""
    free = iter(free_ports(2 * len(names)))
    links = {}
    ports: dict[str, PeerPort] = {}
    async with AsyncExitStack() as stack:
        for name in names:
            client, peer = f"127.0.0.1:{next(free)}", f"127.0.0.1:{next(free)}"
            clients = await stack.enter_async_context(Cuttable(client))
            ports[name] = await stack.enter_async_context(PeerPort(peer))
            addresses = Addresses(client, peer, clients.endpoint, ports[name].endpoint)
            links[name] = ProxyLink(name, addresses, clients, ports, ids)
        yield links
