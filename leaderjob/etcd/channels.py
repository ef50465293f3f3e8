"""The gRPC channels to the endpoints: opened when they are needed, exchanged when the certificates change."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from leaderjob.etcd.errors import ClientClosed
from leaderjob.etcd.rpc import Stubs
from leaderjob.tls import CertificateFiles, Fresh, Pem

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Not below the 5 s that etcd's server tolerates (--grpc-keepalive-min-time).
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    # What ends a connection that has gone silent; by default only after a minute, whatever is said above.
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
)


class Channels:
    """A channel per endpoint, and another one for what is urgent, each made when it is first used.

    A keepalive has a connection of its own, so it does not wait behind a listing of many megabytes.

    :param certificates: TLS, by these; None: nothing is encrypted.
    :raises SettingsError: the certificates cannot be used.
    """

    def __init__(self, certificates: CertificateFiles | None) -> None:
        self._certificates = (
            Fresh(certificates, CertificateFiles.read_for_client) if certificates is not None else None
        )
        self._pem = self._certificates.get() if self._certificates is not None else None
        self._in_use: dict[tuple[str, bool], Channel] = {}
        self._retired: set[Channel] = set()
        self._closed = False

    @asynccontextmanager
    async def use(self, endpoint: str, *, urgent: bool = False) -> AsyncIterator[Stubs]:
        """The stubs for one call there, which must be over at the end. :raises ClientClosed: this is closed."""
        channel = self.take(endpoint, urgent=urgent)
        try:
            yield channel.stubs
        finally:
            await self.leave(channel)

    def take(self, endpoint: str, *, urgent: bool = False) -> "Channel":
        """What :meth:`use` does in two steps, for calls that take less time than a context manager would add."""
        if self._closed:
            raise ClientClosed
        channel = self._in_use.get((endpoint, urgent))
        if channel is None:
            channel = self._in_use[endpoint, urgent] = Channel(endpoint, self._pem)
        channel.calls += 1
        return channel

    async def leave(self, channel: "Channel") -> None:
        """The call is over."""
        channel.calls -= 1
        if self._retired:
            await self._close_idle()

    async def renew(self) -> None:
        """Connect anew, by the next call, if the certificates have changed: a channel keeps what it began with.

        What is under way on the old ones goes on; each is closed with the last call on it.
        """
        pem = self._certificates.get() if self._certificates is not None else None
        if pem is not self._pem:
            self._pem = pem
            self._retired.update(self._in_use.values())
            self._in_use = {}
            await self._close_idle()

    async def close(self) -> None:
        """End what is under way; from now on nothing can be called."""
        self._closed = True
        channels = (*self._retired, *self._in_use.values())
        self._in_use = {}
        self._retired = set()
        for channel in channels:
            await channel.close()

    async def _close_idle(self) -> None:
        for channel in [each for each in self._retired if not each.calls]:
            self._retired.discard(channel)
            await channel.close()


class Channel:
    """A channel, and how many calls use it."""

    def __init__(self, endpoint: str, pem: Pem | None) -> None:
        if pem is None:
            self._channel: Any = grpc.aio.insecure_channel(endpoint, options=_CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)
            self._channel = grpc.aio.secure_channel(endpoint, credentials, options=_CHANNEL_OPTIONS)
        self.stubs = Stubs(self._channel)
        self.calls = 0

    async def close(self) -> None:
        await self._channel.close(None)
