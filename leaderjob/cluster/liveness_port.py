"""The port where a replica's process is seen to be there; ``liveness.py`` has what others conclude from it."""

import asyncio
import ctypes
import gc
import json
import math
import os
import selectors
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, ClassVar, Self

from leaderjob.errors import SettingsError
from leaderjob.places import Place, Places
from leaderjob.telemetry.events import Events, emit

_MOST_STREAMS = 64
_MOST_STREAMS_OF_ONE_ADDRESS = 8
_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
_ACCEPT_AGAIN_S = 1.0
_TELL_AGAIN_S = 60.0
_END_WITHIN_S = 1.0
_TICK_S = 0.25
_HANGS_AFTER_S = 2.0

_SYS_CLOSE_RANGE = 436  # on each architecture that Python runs on
_CLOSE_RANGE_UNSHARE = 2
_FIRST, _LAST = 3, 2**32 - 1


class LivenessListener:
    """Tells whoever connects who this process is. Close it last, after the children are gone.

    The port is never shared (no ``SO_REUSEPORT``), so that "refused" means what it says. It is open to anybody:
    who is there is told to all, to stay is for a few, and for even fewer from one address. A candidate needs
    one stream; one that finds no place waits for the TTL, as where nothing answers.

    :param host: the first address of this name is the one that is bound.
    :param port: 0 takes a free one; see :attr:`port`.
    """

    # A thread of its own, whose descriptors are its own too. When a process is killed, the kernel takes its memory
    # apart (5 ms for 60 MB) before it closes what the threads have in common; what one thread has alone it closes
    # when that thread ends, in a tenth of the time, so that others learn of the death as much earlier. This is
    # why the thread may not touch the event loop: the loop's descriptors are others here. And it may not be the one in
    # which Python happens to collect garbage: a socket that is closed by that would be another one here.

    _open: ClassVar[int] = 0

    def __init__(self, replica: str, incarnation: str, host: str, port: int = 0) -> None:
        self._hello = json.dumps({"replica": replica, "incarnation": incarnation}).encode() + b"\n"
        self._host = host
        self.port = port
        self._thread: threading.Thread | None = None
        self._ticked_at = -math.inf
        self._next_tick: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """:raises SettingsError: the port is in use, or the host is none of this machine's."""
        self._tick()
        self._stopped, self._stop = os.pipe()
        LivenessListener._open += 1
        gc.disable()
        bound: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(self._stopped, bound), name="liveness port", daemon=True
        )
        self._thread.start()
        try:
            self.port = bound.result()  # milliseconds: a name may have to be resolved, once
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._next_tick is not None:
            self._next_tick.cancel()
        if self._thread is not None:
            os.close(self._stop)
            self._thread.join(_END_WITHIN_S)
            LivenessListener._open -= 1
            if not LivenessListener._open:
                gc.enable()
            if not self._thread.is_alive():
                os.close(self._stopped)
            self._thread = None

    def _serve(self, stopped: int, bound: "Future[int]") -> None:
        # A signal that the kernel gave to this thread would be told to the loop by a descriptor that is none here.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            _own_descriptors(but=stopped)
            listener = self._listen()
            bound.set_result(listener.getsockname()[1])
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            bound.set_exception(error)
            return
        with listener:
            try:
                _Streams(listener, self._greeting).serve_until(stopped)
            except Exception as error:  # noqa: BLE001 - whatever it was: to close the port now would be a false death
                emit(Events.CANNOT_ACCEPT, port=self.port, reason=error)
                os.read(stopped, 1)

    def _greeting(self) -> bytes:
        """What to say to who connects: nothing while the event loop hangs, for then this process does not work."""
        return self._hello if monotonic() - self._ticked_at < _HANGS_AFTER_S else b""

    def _tick(self) -> None:
        self._ticked_at = monotonic()
        _collect_garbage()
        self._next_tick = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _listen(self) -> socket.socket:
        try:
            (family, _, _, _, address), *_ = socket.getaddrinfo(
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


def _collect_garbage() -> None:
    """As Python does it by itself otherwise, but here, and not in whichever thread it falls due."""
    due = [count > limit for count, limit in zip(gc.get_count(), gc.get_threshold(), strict=True)]
    for generation in (2, 1, 0):
        if due[generation]:
            gc.collect(generation)
            return


class _Streams:
    """Who is connected."""

    def __init__(self, listener: socket.socket, greeting: Callable[[], bytes]) -> None:
        self._listener = listener
        self._greeting = greeting
        self._selector = selectors.PollSelector()  # takes nothing of the system that could run out
        self._places = Places(_MOST_STREAMS, per_peer=_MOST_STREAMS_OF_ONE_ADDRESS)
        self._streams: dict[socket.socket, Place] = {}
        self._again_at = math.inf
        self._told_at = -math.inf

    def serve_until(self, stopped: int) -> None:
        """Return when that pipe is closed at its other end; whose stream breaks then dials again, and is refused."""
        self._selector.register(stopped, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while True:
            pause_s = None if self._again_at == math.inf else max(0.0, self._again_at - monotonic())
            ready = [key.fileobj for key, _ in self._selector.select(pause_s)]
            if stopped in ready:
                break
            for connection in ready:
                if connection is self._listener:
                    self._accept()
                elif isinstance(connection, socket.socket):
                    self._end(connection)
            if monotonic() >= self._again_at:
                self._again_at = math.inf
                self._selector.register(self._listener, selectors.EVENT_READ)
        self._listener.close()
        for connection in list(self._streams):
            self._end(connection)

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it went away while it waited
        except OSError as error:
            self._pause(error)
            return
        connection.setblocking(False)
        with suppress(OSError):  # it is gone already: the next read says so too
            connection.send(self._greeting())
        place = self._places.take(address[0])
        if place is None:
            connection.close()  # greeted all the same: that is no verdict, and answers who asks who is here
            return
        self._streams[connection] = place
        self._selector.register(connection, selectors.EVENT_READ)

    def _end(self, connection: socket.socket) -> None:
        """The other side went away, or says something: then it is no candidate. Or it is we who go."""
        self._selector.unregister(connection)
        self._streams.pop(connection).leave()
        connection.close()

    def _pause(self, error: OSError) -> None:
        """Leave those who connect in the queue for a while: it is most likely descriptors that ran out.

        A dial that is not answered is no verdict.
        """
        self._selector.unregister(self._listener)
        self._again_at = monotonic() + _ACCEPT_AGAIN_S
        if monotonic() - self._told_at >= _TELL_AGAIN_S:
            self._told_at = monotonic()
            emit(Events.CANNOT_ACCEPT, port=self._listener.getsockname()[1], reason=error)


def _own_descriptors(*, but: int) -> None:
    """Give this thread a table of descriptors of its own, with nothing in it but 0 to 2 and that one.

    Before Linux 5.9, and where a sandbox forbids it, the thread goes on with those of the process.
    """
    syscall = ctypes.CDLL(None, use_errno=True).syscall

    def close_range(first: int, last: int, flags: int) -> bool:
        number = ctypes.c_long(_SYS_CLOSE_RANGE)
        return not syscall(number, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(flags))

    if close_range(but + 1, _LAST, _CLOSE_RANGE_UNSHARE) and but > _FIRST:
        close_range(_FIRST, but - 1, 0)


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
