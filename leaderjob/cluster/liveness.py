"""Whether a replica's process is there, seen without etcd: what lets a crash be told in milliseconds.

Each replica listens on a port of its own and tells whoever connects its incarnation. A candidate holds
such a stream to its predecessor. When it breaks, the candidate dials the literal address of that stream
again: if nobody listens there any more (the host answers "refused"), or somebody with another
incarnation does, the process is gone: that is the VERDICT. A timeout is none (the host may be cut off),
nor is the same incarnation (a connection was merely reset), nor a dial that never worked before.

A verdict grants office, not the right to work: a firewall that rejects looks just like it. Whatever the
old leader could still write is fenced, and its jobs are held back until its workers are surely gone.
"""

import asyncio
import json
import math
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from leaderjob.errors import SettingsError
from leaderjob.etcd import KeyValue
from leaderjob.model.member import Candidate
from leaderjob.places import Place, Places
from leaderjob.telemetry.events import Events, emit

_MOST_STREAMS = 64
_MOST_STREAMS_OF_ONE_ADDRESS = 8
_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
_ACCEPT_AGAIN_S = 1.0
_TELL_AGAIN_S = 60.0
_DIAL_AGAIN_FOR_S = 0.05
_DIAL_PAUSE_S = 0.005
_CONNECT_TIMEOUT_S = 2.0
_FIRST_DIAL_PAUSE_S = 1.0


class LivenessListener:
    """Tells whoever connects who this process is. Close it last, after the children are gone.

    The port is never shared (no ``SO_REUSEPORT``), so that "refused" means what it says. It is open to anybody:
    who is there is told to all, to stay is for a few, and for even fewer from one address. A candidate needs
    one stream; one that finds no place waits for the TTL, as where nothing answers.

    :param host: the first address of this name is the one that is bound.
    :param port: 0 takes a free one; see :attr:`port`.
    """

    # Sockets rather than asyncio's server: strangers get no task or transport that would have to be waited for at
    # the end, and a server logs each accept that fails, up to a hundred times for one connection.

    def __init__(self, replica: str, incarnation: str, host: str, port: int = 0) -> None:
        self._hello = json.dumps({"replica": replica, "incarnation": incarnation}).encode() + b"\n"
        self._host = host
        self.port = port
        self._places = Places(_MOST_STREAMS, per_peer=_MOST_STREAMS_OF_ONE_ADDRESS)
        self._streams: dict[socket.socket, Place] = {}
        self._listener: socket.socket | None = None
        self._again: asyncio.TimerHandle | None = None
        self._told_at = -math.inf

    async def __aenter__(self) -> Self:
        """:raises SettingsError: the port is in use, or the host is none of this machine's."""
        self._loop = asyncio.get_running_loop()
        self._listener = await self._listen()
        self.port = self._listener.getsockname()[1]
        self._loop.add_reader(self._listener, self._accept, self._listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._listener is not None:
            # First: whose stream breaks dials again, and is to be refused.
            self._loop.remove_reader(self._listener)
            self._listener.close()
        for connection in list(self._streams):
            self._end(connection)

    async def _listen(self) -> socket.socket:
        try:
            (family, _, _, _, address), *_ = await self._loop.getaddrinfo(
                self._host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            return _listening(family, address)
        except OSError as error:
            if not self.port:
                raise SettingsError(f"cannot listen on {self._host}: {error.strerror}") from error
            raise SettingsError(
                f"setting 'replica.liveness_port': cannot listen on port {self.port} of {self._host} "
                f"({error.strerror}), where others see whether this process is there: free the port (perhaps this "
                "replica runs already), set another one, or 0 to let the system choose"
            ) from error

    def _accept(self, listener: socket.socket) -> None:
        """One connection for each turn of the loop, so that many of them hold nothing else up."""
        try:
            connection, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it went away while it waited
        except OSError as error:
            self._pause(listener, error)
            return
        connection.setblocking(False)
        with suppress(OSError):  # it is gone already: the next read says so too
            connection.send(self._hello)
        place = self._places.take(address[0])
        if place is None:
            connection.close()  # greeted all the same: that is no verdict, and answers who asks who is here
            return
        self._streams[connection] = place
        self._loop.add_reader(connection, self._end, connection)

    def _end(self, connection: socket.socket) -> None:
        """The other side went away, or says something: then it is no candidate. Or it is we who go."""
        self._loop.remove_reader(connection)
        self._streams.pop(connection).leave()
        connection.close()

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Leave those who connect in the queue for a while: it is most likely descriptors that ran out.

        A dial that is not answered is no verdict.
        """
        self._loop.remove_reader(listener)
        self._again = self._loop.call_later(
            _ACCEPT_AGAIN_S, self._loop.add_reader, listener, self._accept, listener
        )
        if self._loop.time() - self._told_at >= _TELL_AGAIN_S:
            self._told_at = self._loop.time()
            emit(Events.CANNOT_ACCEPT, port=self.port, reason=error)


def _listening(family: int, address: Any) -> socket.socket:
    """:raises OSError: it cannot be bound."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port rests after each process
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Inherited by what is accepted. Without it a host that vanished would keep its places for ever.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
        listener.bind(address)
        listener.listen(_MOST_STREAMS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


async def incarnation_at(address: str, *, timeout_s: float = _CONNECT_TIMEOUT_S) -> str | None:
    """The incarnation of the process that listens at ``HOST:PORT``, or None if nobody says one."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer, incarnation = await _dial(address)
    except (OSError, ValueError):
        return None
    writer.close()
    return incarnation


async def witness(predecessor: KeyValue) -> str:
    """Return, with the evidence, once the predecessor's process is certainly gone; until then, wait.

    For a candidate that is not one of ours, or that cannot be reached, this waits for ever: there the
    TTL decides.
    """
    try:
        candidate = Candidate.from_bytes(predecessor.value)
    except ValueError:
        return await _never()
    address = candidate.addresses.get("liveness")
    if address is None:
        return await _never()
    while True:
        literal_address = await _stream_until_it_breaks(address, candidate.incarnation)
        if literal_address is not None:
            evidence = await _verdict(literal_address, candidate.incarnation)
            if evidence is not None:
                return f"{candidate.replica} at {literal_address}: {evidence}"
        await asyncio.sleep(_FIRST_DIAL_PAUSE_S)


async def _stream_until_it_breaks(address: str, incarnation: str) -> str | None:
    """The literal address of a stream to that incarnation that is now broken, or None: there was none.

    Literal, because a name may lead elsewhere the next time, where nobody listens for another reason.
    """
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            reader, writer, found = await _dial(address)
    except (OSError, ValueError):
        return None
    try:
        peer = writer.get_extra_info("peername")
        if found != incarnation or peer is None:
            return None
        with suppress(OSError):
            while await reader.read(1024):
                pass
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        writer.close()


async def _verdict(address: str, incarnation: str) -> str | None:
    """Dial again for a short while: the evidence that the process is gone, or None."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _DIAL_AGAIN_FOR_S
    while True:
        try:
            async with asyncio.timeout(max(0.001, give_up_at - loop.time())):
                _, writer, found = await _dial(address)
        except ConnectionRefusedError:
            return "the stream broke, and nobody listens there any more"
        except (OSError, ValueError):
            if loop.time() >= give_up_at:
                return None
            await asyncio.sleep(_DIAL_PAUSE_S)
            continue
        writer.close()
        return (
            None if found == incarnation else f"the stream broke, and incarnation {found} listens there now"
        )


async def _dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """:raises OSError: no connection (TimeoutError is one). :raises ValueError: not a replica."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=4096)
    try:
        hello = json.loads(await reader.readline())
        return reader, writer, str(hello["incarnation"])
    except (ValueError, KeyError, TypeError) as error:
        writer.close()
        raise ValueError(f"whoever listens at {address} is not a replica") from error
    except BaseException:
        writer.close()
        raise


async def _never() -> str:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
