"""A TCP proxy in front of a server that does to connections what networks do: cut, delay, reset, refuse."""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger {l_onoff, l_linger}: close(2) sends RST


class _Direction:
    """One way through the proxy: from clients to the server, or back."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.holding = asyncio.Event()


class Cuttable:
    """Forwards to ``server`` (``HOST:PORT``) until it is told otherwise; connect to :attr:`endpoint`.

    A cut is silent, as a network's is: connections stay open, bytes are held and not lost, as TCP would
    send them again. What is held when the connections are reset never arrives.

    ``delay_s`` holds each chunk for so long, each way; ``connections`` counts those that were served; new
    ones go to ``server``, which may be changed.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted = asyncio.Condition()
        self._requests = _Direction()
        self._answers = _Direction()
        self.delay_s = 0.0
        self.connections = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        await self.refuse()
        await asyncio.gather(*self._tasks)

    async def accept(self) -> None:
        """Listen, on the same port as before: the opposite of :meth:`refuse`."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Reset what is connected, and refuse whoever connects."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.reset()

    def reset(self) -> None:
        """Reset what is connected; what is held back is lost. Whoever connects again is served."""
        for pair in self._pairs:
            for writer in pair:
                _reset(writer)

    def cut(self, *, requests: bool = True, answers: bool = True) -> None:
        """Let nothing through: from clients (``requests``), from the server (``answers``), or both."""
        for direction, wanted in ((self._requests, requests), (self._answers, answers)):
            if wanted:
                direction.open.clear()
                direction.holding.clear()

    def heal(self) -> None:
        """Let everything through, and what was held first."""
        for direction in (self._requests, self._answers):
            direction.open.set()

    async def holding_request(self) -> None:
        """Return when, since the cut, a client has sent something that is held back."""
        await self._requests.holding.wait()

    async def holding_answer(self) -> None:
        """Return when, since the cut, the server has sent something that is held back."""
        await self._answers.holding.wait()

    async def accepted(self, connections: int) -> None:
        """Return when so many connections were served, over the proxy's life."""
        async with self._accepted:
            await self._accepted.wait_for(lambda: self.connections >= connections)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        host, _, port = self.server.rpartition(":")
        try:
            from_server, server = await asyncio.open_connection(host, int(port))
        except OSError:
            _reset(client)
            self._tasks.discard(task)
            return
        if self._listener is None:  # refused while it was opening
            server.close()
            _reset(client)
            self._tasks.discard(task)
            return
        pair = (client, server)
        self._pairs.add(pair)
        async with self._accepted:
            self.connections += 1
            self._accepted.notify_all()
        pumps = [
            asyncio.ensure_future(self._pump(reader, server, self._requests)),
            asyncio.ensure_future(self._pump(from_server, client, self._answers)),
        ]
        try:
            # A connection that ends on one side ends on the other: no protocol here half-closes.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in pair:
                writer.close()
            self._pairs.discard(pair)
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: _Direction
    ) -> None:
        with suppress(OSError):  # one side was reset, which is what this proxy is for
            while chunk := await reader.read(_CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if not direction.open.is_set():
                    direction.holding.set()
                    await direction.open.wait()
                writer.write(chunk)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
