"""How a call finds its way: deadlines, failover, our own errors."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from leaderjob.endpoints import choose_certificates, parse_endpoints, refuse_plaintext_password
from leaderjob.etcd.auth import Auth, User
from leaderjob.etcd.channels import Channels
from leaderjob.etcd.endpoints import Endpoints
from leaderjob.etcd.errors import (
    EtcdError,
    HistoryWentBack,
    NobodyKnown,
    NoSpace,
    OtherCluster,
    PermissionDenied,
    RequestRefused,
)
from leaderjob.etcd.permissions import wanted
from leaderjob.etcd.rpc import Stubs
from leaderjob.etcd.tries import Tries
from leaderjob.tls import CertificateFiles

HAS_LEADER = (("hasleader", "true"),)
"""Metadata: a member that is cut off from its quorum refuses such a call instead of answering from memory."""

_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
_NEVER_SENT = (
    "failed to connect",
    "connections to all backends failing",
    "dns resolution failed",
    "errors resolving",
)
# What is at this endpoint is a proxy in trouble, or no etcd at all: another endpoint may do better.
_NOT_AS_ETCD = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
# Nothing was done: it is losing or handing over the leadership of etcd, has too much to do, or is no voting member.
_RETRIABLE_REFUSALS = (
    "not a primary lessor",
    "raft proposal dropped",
    "too many requests",
    "not supported for learner",
)
_MEANINGS = {
    "connection refused": "connection refused",
    "certificate_verify_failed": "its certificate has expired, or is not signed by an authority in etcd.ca "
    "(without etcd.ca: by one that this system trusts)",
    "hostname verification": "its certificate is for another name than that of this endpoint",
    "alert_bad_certificate": "it wants to see a certificate that it trusts: give etcd.cert and etcd.key",
    "alert_certificate_required": "it wants to see a certificate that it trusts: give etcd.cert and etcd.key",
    # TLS 1.3: the handshake is over for us before it has looked, and its alert comes as a record that cannot be read.
    "unwrap failed": "it ended the connection after the TLS handshake: it wants to see a certificate that it trusts, so "
    "give etcd.cert and etcd.key, signed by an authority that it knows",
    "not supported for learner": "it is a learner, which answers no requests until it is promoted: etcdctl member promote",
    "alert_unknown_ca": "it does not trust the authority that signed etcd.cert",
    "handshake read failed": "it does not speak TLS: write http://, and give no etcd.ca and no etcd.cert",
    "dns resolution failed": "no address is known under its name",
    "errors resolving": "no address is known under its name",
    "before receiving settings": "it takes the connection and says nothing: it hangs, or is not etcd",
    "failed parsing http/2": "it answers, but not as etcd does: is this the port for clients?",
    "socket closed": "it closed the connection; if it speaks TLS, write https:// and give etcd.ca",
}
"""What gRPC says of a connection that fails, in lower case, and what that means for us."""

NO_ANSWER = "no answer in time"


class Connection:
    """Calls go to the endpoint in use, and move on to the next when it fails.

    :param call_timeout_s: the deadline of one try. Below a third of the TTL, so that a keepalive that
        runs into a dead member has time for another.
    :param certificates: TLS with these; None: with those of the system if the endpoints say ``https://``, else no TLS.
    :param user: whom etcd knows us as, where it asks.
    :param allow_plaintext_password: send the password of ``user`` unencrypted over a network as well.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        call_timeout_s: float,
        certificates: CertificateFiles | None = None,
        user: User | None = None,
        allow_plaintext_password: bool = False,
    ) -> None:
        parsed = parse_endpoints(endpoints)
        self.certificates = choose_certificates(parsed, certificates)
        """What is encrypted with; None: nothing is encrypted."""
        if user is not None and self.certificates is None and not allow_plaintext_password:
            refuse_plaintext_password(parsed)
        self._endpoints = Endpoints(parsed)
        self.call_timeout_s = call_timeout_s
        self.auth = Auth(user)
        self.channels = Channels(self.certificates)
        self._cluster_id: int | None = None
        self.on_round_trip: Callable[[float], None] = lambda seconds: None
        """Told how long each call took that was answered."""
        self._highest_revision = 0
        self._went_back: HistoryWentBack | None = None
        self._life = 0

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

    async def close(self) -> None:
        await self.channels.close()

    async def call(
        self,
        method: Callable[[Stubs], Any],
        request: Any,
        *,
        repeatable: bool,
        writes: bool = False,
        linearizable: bool = True,
        within_s: float | None = None,
        urgent: bool = False,
    ) -> Any:
        """One unary call, tried on every endpoint at most twice.

        :param repeatable: doing it twice is as good as once. What is not, is tried again only where
            it surely was never sent.
        :param writes: it matters whether it was done, although it is repeatable.
        :param within_s: the deadline of all tries together; each has a share of it, of ``call_timeout_s`` at most.
        :param urgent: use the connection that keepalives have to themselves.
        :raises EtcdUnavailable: nothing was done. :raises AmbiguousWrite: it is not known.
        :raises RequestRefused: etcd refused it (or a subclass), and nothing was done.
        :raises HistoryWentBack: the store did; from then on nothing is sent, because each write would
            bring its revision nearer to what was seen before, until nobody could tell.
        """
        if self._went_back is not None:
            raise HistoryWentBack(self._went_back.known, self._went_back.found)
        known, life = self._highest_revision, self._life
        writes = writes or not repeatable
        tries = Tries(self.endpoints, try_timeout_s=self.call_timeout_s, within_s=within_s, writes=writes)
        while (timeout_s := await tries.another()) is not None:
            endpoint = self.endpoint
            try:
                response = await self._try(
                    method, request, endpoint, timeout_s=timeout_s, writes=writes, urgent=urgent
                )
            except _TokenRefused as refused:
                tries.token_refused(endpoint, str(refused))
            except _Unanswered as failed:
                self.move_on(endpoint)
                tries.failed(endpoint, str(failed), may_be_done=failed.may_be_done)
                if failed.may_be_done and not repeatable:
                    break
                await self.channels.renew()
            except EtcdError as refusal:
                outcome = tries.outcome(refusal)
                if outcome is refusal:
                    raise
                raise outcome from refusal
            else:
                compared = linearizable and life == self._life
                self._check_header(response.header, endpoint, known if compared else None)
                return response
        raise tries.outcome()

    async def _try(
        self,
        method: Callable[[Stubs], Any],
        request: Any,
        endpoint: str,
        *,
        timeout_s: float,
        writes: bool,
        urgent: bool,
    ) -> Any:
        """The answer of one endpoint. :raises EtcdError: what it refused for good, and did not do."""
        began_at, token, sent_at = time.monotonic(), None, None
        try:
            channel = self.channels.take(endpoint, urgent=urgent)
            try:
                if self.auth.is_needed:
                    token = await self.auth.token(channel.stubs, timeout_s=timeout_s)
                sent_at = time.monotonic()
                left_s = max(0.0, began_at + timeout_s - sent_at)
                metadata = token.metadata if token else ()
                response = await method(channel.stubs)(request, timeout=left_s, metadata=metadata)
            finally:
                await self.channels.leave(channel)
        except asyncio.CancelledError:
            if not cancelled_by_peer():
                raise
            raise _Unanswered("the server cancelled it", may_be_done=sent_at is not None) from None
        except TimeoutError:
            raise _Unanswered(NO_ANSWER, may_be_done=False) from None
        except grpc.aio.AioRpcError as error:
            if self.auth.expired(error, token):
                raise _TokenRefused(describe(error)) from error
            if sent_at is not None and _may_be_done(error, writes=writes):
                raise _Unanswered(describe(error), may_be_done=True) from error
            if _is_transient(error) or _is_retriable(error):
                raise _Unanswered(describe(error), may_be_done=False) from error
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                raise PermissionDenied(self.auth.user_name, wanted(request)) from error
            if error.code() in _NOT_AS_ETCD:
                detail = f"it does not answer as etcd does ({describe(error)})"
                raise _Unanswered(detail, may_be_done=False) from error
            raise _refusal(error, endpoint) from error
        self.on_round_trip(time.monotonic() - sent_at)
        return response

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


class _TokenRefused(Exception):
    """A try was refused for its token alone, and not done; the next one gets a new token."""


class _Unanswered(Exception):
    """A try came to nothing, and another endpoint may do better. :param may_be_done: it was sent."""

    def __init__(self, detail: str, *, may_be_done: bool) -> None:
        super().__init__(detail)
        self.may_be_done = may_be_done


def _is_transient(error: grpc.aio.AioRpcError) -> bool:
    """Whether the connection or the member is at fault, and not what was asked for."""
    if error.code() is grpc.StatusCode.UNKNOWN:
        # How a member that has lost its quorum puts it that the caller's time is up: Go's own words.
        return _details(error).startswith("context ")
    return error.code() in _TRANSIENT


def _is_retriable(error: grpc.aio.AioRpcError) -> bool:
    return any(text in _details(error) for text in _RETRIABLE_REFUSALS)


def _may_be_done(error: grpc.aio.AioRpcError, *, writes: bool) -> bool:
    """Whether what was sent may be done in spite of this answer."""
    if any(text in _details(error) for text in (*_RETRIABLE_REFUSALS, *_NEVER_SENT)):
        return False
    # INTERNAL is how a stream that breaks in the middle may end.
    return _is_transient(error) or (writes and error.code() is grpc.StatusCode.INTERNAL)


def _refusal(error: grpc.aio.AioRpcError, endpoint: str) -> EtcdError:
    """Our error for what etcd refused."""
    details = error.details() or ""
    if "user name is empty" in details:
        return NobodyKnown(endpoint)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "space exceeded" in details:
        return NoSpace()
    return RequestRefused(f"etcd at {endpoint} refused the request: {details or error.code().name.lower()}")


def describe(error: grpc.aio.AioRpcError) -> str:
    """Why a call got no answer, in a few words."""
    details = (error.details() or "").strip()
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return NO_ANSWER
    lowered = details.lower()
    for text, meaning in _MEANINGS.items():
        if text in lowered:
            return meaning
    return details.splitlines()[0][:200] if details else error.code().name.lower()


def _details(error: grpc.aio.AioRpcError) -> str:
    return (error.details() or "").lower()
