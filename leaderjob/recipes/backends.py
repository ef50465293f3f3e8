"""The instances of one service, each with a gRPC channel of its own, kept connected, and picked in turn.

gRPC's own round robin can do all of this, but for one thing: outside of xDS its Python binding has no way to tell it
of another list of addresses.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio

_OPTIONS: Mapping[str, Any] = {
    "grpc.enable_http_proxy": 0,
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 500,
    "grpc.max_reconnect_backoff_ms": 1000,
}


class Backend:
    """One instance: its channel, and how many calls are under way on it."""

    def __init__(self, address: str, channel: Any, changed: Callable[[], None]) -> None:
        self.address = address
        self.channel = channel
        self._changed = changed
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._watching = asyncio.create_task(self._watch(), name=f"connection to {address}")

    @property
    def ready(self) -> bool:
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    def began(self, call: Any) -> None:
        """A call is under way here until it is done."""
        self._calls += 1
        self._idle.clear()
        call.add_done_callback(self._ended)

    def _ended(self, _: Any) -> None:
        self._calls -= 1
        if not self._calls:
            self._idle.set()

    async def _watch(self) -> None:
        """Connect, and connect again: no call should have to."""
        while True:
            state = self.channel.get_state(try_to_connect=True)
            self._changed()
            await self.channel.wait_for_state_change(state)

    async def leave(self) -> None:
        """Close it when the calls under way have ended, however long they take; or at once, when this is cancelled."""
        try:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            await self._idle.wait()
        finally:
            await self.channel.close(None)


class Backends:
    """Those that are picked from, and those that are being left.

    :param service: for messages. :param credentials: None: nothing is encrypted. :param options: of each channel.
    """

    def __init__(
        self, service: str, credentials: grpc.ChannelCredentials | None, options: Sequence[tuple[str, Any]]
    ) -> None:
        self.closed = False
        self._service = service
        self._credentials = credentials
        self._options = tuple({**_OPTIONS, **dict(options)}.items())
        self._present: dict[str, Backend] = {}
        self._leaving: dict[Backend, asyncio.Task[None]] = {}
        self._turn = 0
        self._changed = asyncio.Event()

    @property
    def state(self) -> grpc.ChannelConnectivity:
        """READY if one of them is."""
        if self.closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if any(backend.ready for backend in self._present.values()):
            return grpc.ChannelConnectivity.READY
        return grpc.ChannelConnectivity.CONNECTING

    async def changed(self) -> None:
        """Wait until something may be otherwise."""
        await self._changed.wait()

    def set(self, addresses: Sequence[str]) -> None:
        """From now on these are picked from. Calls under way on others may end there."""
        for address in [each for each in self._present if each not in addresses]:
            self._leave(self._present.pop(address))
        for address in addresses:
            if address not in self._present:
                self._present[address] = Backend(address, self._open(address), self._tell)
        self._tell()

    async def pick(self, *, timeout_s: float | None, wait_s: float | None) -> Backend:
        """The next one that is connected.

        :param timeout_s: of the call. :param wait_s: how long at most to wait for one; None: as long as the call may.
        :raises grpc.aio.AioRpcError: DEADLINE_EXCEEDED or UNAVAILABLE: there was none in that time.
        :raises grpc.aio.UsageError: the channel is closed.
        """
        limits = [each for each in (timeout_s, wait_s) if each is not None]
        try:
            async with asyncio.timeout(min(limits, default=None)):
                while (backend := self._next()) is None:
                    await self._changed.wait()
        except TimeoutError:
            expired = timeout_s is not None and min(limits) == timeout_s
            raise self._none_there(min(limits), expired=expired) from None
        return backend

    def _next(self) -> Backend | None:
        if self.closed:
            raise grpc.aio.UsageError(f"the channel to {self._service} is closed: open another one")
        backends = list(self._present.values())
        for step in range(len(backends)):
            backend = backends[(self._turn + step) % len(backends)]
            if backend.ready:
                self._turn = (self._turn + step + 1) % len(backends)
                return backend
        return None

    async def close(self, grace_s: float | None) -> None:
        """:param grace_s: how long calls under way may go on; None: not at all. Cancelled, it closes at once."""
        self.closed = True
        self._tell()
        for backend in self._present.values():
            self._leave(backend)
        self._present = {}
        leaving = list(self._leaving.values())
        try:
            if leaving:
                await asyncio.wait(leaving, timeout=grace_s or 0.0)
        finally:
            for task in leaving:
                task.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)

    def _open(self, address: str) -> Any:
        target = f"dns:///{address}"  # or a host called unix, or dns, would be taken for a scheme
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=self._options)
        return grpc.aio.secure_channel(target, self._credentials, options=self._options)

    def _leave(self, backend: Backend) -> None:
        task = asyncio.create_task(backend.leave(), name=f"leave {backend.address}")
        self._leaving[backend] = task
        task.add_done_callback(lambda _: self._leaving.pop(backend, None))

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _none_there(self, waited_s: float, *, expired: bool) -> grpc.aio.AioRpcError:
        known = ", ".join(self._present) or "none is registered"
        code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.UNAVAILABLE
        return grpc.aio.AioRpcError(
            code,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(),
            f"no instance of {self._service} could be reached within {waited_s:g} s ({known}); nothing was sent",
        )


def left_s(give_up_at: float | None) -> float | None:
    """Until that moment of :func:`time.monotonic`; at least 0. None: for ever."""
    return None if give_up_at is None else max(0.0, give_up_at - time.monotonic())
