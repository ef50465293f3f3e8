"""Channels to the endpoints, and how a call finds its way: deadlines, failover, our own errors."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from leaderjob.etcd.auth import Auth, Metadata, User
from leaderjob.etcd.endpoints import Endpoints
from leaderjob.etcd.errors import (
    AmbiguousWrite,
    EtcdError,
    EtcdUnavailable,
    HistoryWentBack,
    NobodyKnown,
    NoSpace,
    OtherCluster,
    PermissionDenied,
    RequestRefused,
)
from leaderjob.etcd.permissions import wanted
from leaderjob.etcd.rpc import Stubs
from leaderjob.tls import CertificateFiles, Fresh

HAS_LEADER = (("hasleader", "true"),)
"""Metadata: a member that is cut off from its quorum refuses such a call instead of answering from memory."""

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
_NEVER_SENT = (
    "failed to connect",
    "connections to all backends failing",
    "dns resolution failed",
    "errors resolving",
)
# Nothing was done: it is losing or handing over the leadership of etcd, or has too much to do.
_RETRIABLE_REFUSALS = ("not a primary lessor", "raft proposal dropped", "too many requests")
_MEANINGS = {
    "connection refused": "connection refused",
    "certificate_verify_failed": "its certificate is not signed by an authority in etcd.ca, or has run out",
    "hostname verification": "its certificate is for another name than that of this endpoint",
    "alert_bad_certificate": "it wants to see a certificate that it trusts: give etcd.cert and etcd.key",
    "alert_certificate_required": "it wants to see a certificate that it trusts: give etcd.cert and etcd.key",
    "alert_unknown_ca": "it does not trust the authority that signed etcd.cert",
    "handshake read failed": "it does not speak TLS: write http://, and give no etcd.ca and no etcd.cert",
    "dns resolution failed": "no address is known under its name",
    "errors resolving": "no address is known under its name",
    "before receiving settings": "it takes the connection and says nothing: it hangs, or is not etcd",
    "failed parsing http/2": "it answers, but not as etcd does: is this the port for clients?",
    "socket closed": "it closed the connection; if it speaks TLS, write https:// and give etcd.ca",
}
"""What gRPC says of a connection that fails, in lower case, and what that means for us."""

_PAUSE_BETWEEN_TRIES_S = 0.05


class Connection:
    """One channel per endpoint; calls go to the current one and move on to the next when it fails.

    :param call_timeout_s: the deadline of one try. Below a third of the TTL, so that a keepalive that
        runs into a dead member has time for another.
    :param certificates: TLS, by these; None: nothing is encrypted.
    :param user: whom etcd knows us as, where it asks.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        call_timeout_s: float,
        certificates: CertificateFiles | None = None,
        user: User | None = None,
    ) -> None:
        self._endpoints = Endpoints(endpoints)
        self.call_timeout_s = call_timeout_s
        self.auth = Auth(user)
        self._certificates = Fresh(certificates, CertificateFiles.read) if certificates is not None else None
        self._pem = self._certificates.get() if self._certificates is not None else None
        self._channels: dict[str, Any] = {}
        self._retired: list[Any] = []
        self._cluster_id: int | None = None
        self.on_round_trip: Callable[[float], None] = lambda seconds: None
        """Told how long each call took that was answered."""
        self._highest_revision = 0
        self._went_back: HistoryWentBack | None = None
        self._life = 0
        self._closed = False

    @property
    def endpoint(self) -> str:
        """Where the next call goes."""
        return self._endpoints.in_use

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._endpoints.all

    @property
    def highest_revision(self) -> int:
        """Of all linearizable answers so far; 0: there was none."""
        return self._highest_revision

    def accept_store(self) -> None:
        """Work with the store as it is now, although it went back. Only for who has drawn the conclusions."""
        self._highest_revision = 0
        self._went_back = None
        self._life += 1

    def move_on(self, failed: str) -> None:
        """The next calls go to other endpoints than ``failed``, for a while."""
        self._endpoints.failed(failed)

    def stubs(self, endpoint: str) -> Stubs:
        if self._closed:
            raise EtcdError("this etcd client is closed")
        if endpoint not in self._channels:
            channel = self._channel(endpoint)
            self._channels[endpoint] = (channel, Stubs(channel))
        stubs: Stubs = self._channels[endpoint][1]
        return stubs

    def _channel(self, endpoint: str) -> Any:
        if self._pem is None:
            return grpc.aio.insecure_channel(endpoint, options=_CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self._pem.ca, self._pem.key, self._pem.cert)
        return grpc.aio.secure_channel(endpoint, credentials, options=_CHANNEL_OPTIONS)

    def use_new_certificates(self) -> None:
        """Connect anew, by the next call, if the files have changed: a channel keeps what it began with.

        What is under way on the old connections ends by itself.
        """
        pem = self._certificates.get() if self._certificates is not None else None
        if pem is not self._pem:
            self._pem = pem
            self._retired.extend(channel for channel, _ in self._channels.values())
            self._channels = {}

    async def metadata(self, endpoint: str, *, timeout_s: float | None = None) -> Metadata:
        """What to send along with a call there: see :meth:`Auth.metadata`."""
        return await self.auth.metadata(self.stubs(endpoint), timeout_s=timeout_s or self.call_timeout_s)

    async def close(self) -> None:
        self._closed = True
        channels, self._channels = self._channels, {}
        for channel in (*self._retired, *(channel for channel, _ in channels.values())):
            await channel.close(None)

    async def call(
        self,
        method: Callable[[Stubs], Any],
        request: Any,
        *,
        repeatable: bool,
        linearizable: bool = True,
    ) -> Any:
        """One unary call, tried on every endpoint at most twice.

        :param repeatable: doing it twice is as good as once. What is not, is tried again only where
            it surely was never sent.
        :raises EtcdUnavailable: nothing was done. :raises AmbiguousWrite: it is not known.
        :raises RequestRefused: etcd refused it (or a subclass).
        :raises HistoryWentBack: the store did; from then on nothing is sent, because each write would
            bring its revision nearer to what was seen before, until nobody could tell.
        """
        if self._went_back is not None:
            raise HistoryWentBack(self._went_back.known, self._went_back.found)
        known, life = self._highest_revision, self._life
        failures: dict[str, str] = {}
        for attempt in range(2 * len(self.endpoints)):
            if attempt and attempt % len(self.endpoints) == 0:
                await asyncio.sleep(_PAUSE_BETWEEN_TRIES_S)
            endpoint = self.endpoint
            sent = False
            try:
                metadata = await self.metadata(endpoint) if self.auth.is_needed else ()
                sent, sent_at = True, time.monotonic()
                response = await method(self.stubs(endpoint))(
                    request, timeout=self.call_timeout_s, metadata=metadata
                )
            except asyncio.CancelledError:
                if not cancelled_by_peer():
                    raise
                self.move_on(endpoint)
                if sent and not repeatable:
                    raise AmbiguousWrite(endpoint, "the server cancelled it") from None
                failures[endpoint] = "the server cancelled it"
                continue
            except grpc.aio.AioRpcError as error:
                failures[endpoint] = describe(error)
                if self.auth.expired(error):
                    continue
                self._settle(error, endpoint, request, repeatable or not sent)
                self.move_on(endpoint)
                self.use_new_certificates()
                continue
            self.on_round_trip(time.monotonic() - sent_at)
            compared = linearizable and life == self._life
            self._check_header(response.header, endpoint, known if compared else None)
            return response
        detail = "; ".join(f"{endpoint}: {failure}" for endpoint, failure in failures.items())
        raise EtcdUnavailable(self.endpoints, detail if len(failures) > 1 else next(iter(failures.values())))

    def _settle(self, error: grpc.aio.AioRpcError, endpoint: str, request: Any, repeatable: bool) -> None:
        """Return if the call may be tried elsewhere, raise our own error if not."""
        code, details = error.code(), (error.details() or "").lower()
        transient = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        # How a member that has lost its quorum puts it that the caller's time is up: Go's own words.
        transient = transient or (code is grpc.StatusCode.UNKNOWN and details.startswith("context "))
        if transient and (repeatable or any(text in details for text in _NEVER_SENT)):
            return
        if any(text in details for text in _RETRIABLE_REFUSALS):
            return
        # INTERNAL is how a stream that breaks in the middle may end: the write may have been done.
        broken = code is grpc.StatusCode.INTERNAL and not repeatable
        if transient or broken or code is grpc.StatusCode.CANCELLED:
            self.move_on(endpoint)
            raise AmbiguousWrite(endpoint, describe(error)) from error
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            raise PermissionDenied(self.auth.user_name, wanted(request)) from error
        raise refusal(error, endpoint) from error

    def check_cluster(self, header: Any, endpoint: str) -> None:
        """:raises OtherCluster: the answer with this header comes from another cluster than the first one."""
        if self._cluster_id is None:
            self._cluster_id = header.cluster_id
        elif header.cluster_id != self._cluster_id:
            self.move_on(endpoint)
            raise OtherCluster(endpoint, self._cluster_id, header.cluster_id)

    def _check_header(self, header: Any, endpoint: str, known: int | None) -> None:
        if header.cluster_id != self._cluster_id:
            self.check_cluster(header, endpoint)
        # Only revisions of linearizable answers can be compared, and only with what was known when the
        # call was sent: answers to calls under way at the same time may arrive in any order.
        if known is None:
            return
        revision = header.revision
        if revision < known:
            self._went_back = HistoryWentBack(known, revision)
            raise self._went_back
        self._highest_revision = max(self._highest_revision, revision)


def cancelled_by_peer() -> bool:
    """Inside ``except CancelledError``: whether the server ended the call, not somebody our task.

    grpc.aio reports a call that ended with status CANCELLED as ``asyncio.CancelledError``.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


def refusal(error: grpc.aio.AioRpcError, endpoint: str) -> EtcdError:
    """Our error for what etcd refused."""
    details = error.details() or ""
    if "user name is empty" in details:
        return NobodyKnown(endpoint)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "space exceeded" in details:
        return NoSpace()
    if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL):
        return EtcdUnavailable([endpoint], f"it does not answer as etcd does ({describe(error)})")
    return RequestRefused(f"etcd at {endpoint} refused the request: {details or error.code().name.lower()}")


def describe(error: grpc.aio.AioRpcError) -> str:
    """Why a call got no answer, in a few words."""
    details = (error.details() or "").strip()
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    lowered = details.lower()
    for text, meaning in _MEANINGS.items():
        if text in lowered:
            return meaning
    return details.splitlines()[0][:200] if details else error.code().name.lower()
