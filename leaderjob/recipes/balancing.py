"""A gRPC channel to a service: each call goes to the next of the instances that are registered and connected.

What callers see is what grpc's own intercepted calls are: a front channel that never connects makes them, and its
interceptors send each to a channel of one instance. gRPC itself connects, and sends again what surely was not seen by
a server that is going away (its transparent retries); here, what found nobody there goes to the next instance.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd, EtcdError, HistoryWentBack
from leaderjob.recipes.arguments import check_wait_s
from leaderjob.recipes.backends import Backend, Backends, left_s
from leaderjob.recipes.registry import Registry
from leaderjob.telemetry.events import Events, emit

_MOST_TRIES = 10
_PAUSE_S = 0.5
_NOT_CONNECTED = "failed to connect to all addresses"


class _Method(bytes):
    """The name of a method, on its way through the front channel, with what only the channel was told of it."""

    serializer: Callable[[Any], bytes] | None
    deserializer: Callable[[bytes], Any] | None

    @classmethod
    def of(cls, name: str | bytes, serializer: Any, deserializer: Any) -> "_Method":
        method = cls(name if isinstance(name, bytes) else name.encode())
        method.serializer, method.deserializer = serializer, deserializer
        return method


class _Caller:
    """Makes calls on one instance after the other."""

    def __init__(self, backends: Backends, wait_s: float, repeatable: Collection[str]) -> None:
        self._backends = backends
        self._wait_s = wait_s
        self._repeatable = frozenset(repeatable)

    async def call(self, kind: str, details: Any, request: Any, *, until: Callable[[Any], Any]) -> Any:
        """A call that is under way or done.

        :param kind: such as ``unary_unary``. :param until: what to wait for before it is given to its caller; as long as
            that fails because nobody was there, or the caller said that it may be repeated, another one is tried.
        """
        give_up_at = None if details.timeout is None else time.monotonic() + details.timeout
        for attempt in range(1, _MOST_TRIES + 1):
            wait_s = None if details.wait_for_ready else self._wait_s
            backend = await self._backends.pick(timeout_s=left_s(give_up_at), wait_s=wait_s)
            call = self._begin(kind, backend, details, request, left_s(give_up_at))
            try:
                await until(call)
            except grpc.aio.AioRpcError as error:
                if attempt < _MOST_TRIES and self._may_go_on(error, backend, details.method):
                    continue
            except asyncio.CancelledError:
                call.cancel()
                raise
            break
        return call

    def _begin(self, kind: str, backend: Backend, details: Any, request: Any, timeout_s: float | None) -> Any:
        method: _Method = details.method
        begin = getattr(backend.channel, kind)(bytes(method), method.serializer, method.deserializer)
        call = begin(request, timeout=timeout_s, metadata=details.metadata, credentials=details.credentials)
        backend.began(call)
        return call

    def _may_go_on(self, error: grpc.aio.AioRpcError, backend: Backend, method: bytes) -> bool:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return False
        return method.decode() in self._repeatable or _surely_not_sent(error, backend)


def _surely_not_sent(error: grpc.aio.AioRpcError, backend: Backend) -> bool:
    """Whether there was no connection to send it on.

    gRPC tells that by its words alone. A server could hand on the same words of another one, behind it: but not with
    its own port in them, on a connection that is gone.
    """
    words = error.details() or ""
    _, _, port = backend.address.rpartition(":")
    return words.startswith(_NOT_CONNECTED) and f":{port}:" in words and not backend.ready


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        async def answered(call: Any) -> None:
            await call

        return await self._caller.call("unary_unary", client_call_details, request, until=answered)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        async def accepted(call: Any) -> None:
            await call.wait_for_connection()

        return await self._caller.call("unary_stream", client_call_details, request, until=accepted)


async def _begun(_: Any) -> None:
    """A stream of requests is used up by the first who takes from it: there is no second try."""


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._caller.call("stream_unary", client_call_details, request_iterator, until=_begun)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._caller.call("stream_stream", client_call_details, request_iterator, until=_begun)


class BalancedChannel(grpc.aio.Channel):  # type: ignore[misc]
    """See :func:`balanced_channel`."""

    def __init__(self, registry: Registry, service: str, backends: Backends, caller: _Caller) -> None:
        self._registry = registry
        self._service = service
        self._backends = backends
        kinds = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
        self._front = grpc.aio.insecure_channel(
            "ipv4:127.0.0.1:1", interceptors=[kind(caller) for kind in kinds]
        )
        self._following = asyncio.create_task(self._follow(), name=f"follow {service}")

    async def _follow(self) -> None:
        """Until it is cancelled, or the store went back: then calls go on with the instances that are known."""
        while True:
            try:
                async with self._registry.following(self._service) as followed:
                    instances = followed.instances
                    while True:
                        self._backends.set(tuple({instance.address: None for instance in instances}))
                        instances = await followed.changed(instances)
            except HistoryWentBack:
                return  # the view has told so
            except EtcdError as error:
                emit(Events.CONNECTION_TROUBLE, reason=error)
                await asyncio.sleep(_PAUSE_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """No call can be made any more. :param grace: for how many seconds those under way may go on; None: not at all.

        Cancelled, it closes at once.
        """
        self._following.cancel()
        try:
            await self._backends.close(grace)
        finally:
            await asyncio.wait([self._following])
            await self._front.close(None)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY while one instance is connected; it always tries to connect."""
        return self._backends.state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self._backends.state is last_observed_state:
            await self._backends.changed()

    async def channel_ready(self) -> None:
        """Wait until an instance is connected. :raises grpc.aio.UsageError: the channel is closed."""
        while self._backends.state is not grpc.ChannelConnectivity.READY:
            if self._backends.state is grpc.ChannelConnectivity.SHUTDOWN:
                raise grpc.aio.UsageError("the channel is closed")
            await self._backends.changed()

    # Generated stubs also say whether a method is known beforehand, which is of no use on the front channel.

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._front.unary_unary(_Method.of(method, request_serializer, response_deserializer))

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._front.unary_stream(_Method.of(method, request_serializer, response_deserializer))

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._front.stream_unary(_Method.of(method, request_serializer, response_deserializer))

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._front.stream_stream(_Method.of(method, request_serializer, response_deserializer))


def balanced_channel(
    etcd: Etcd,
    name: str,
    *,
    namespace: str = "default",
    wait_s: float = 10.0,
    repeatable: Collection[str] = (),
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> BalancedChannel:
    """A ``grpc.aio`` channel to the registered service ``name``; made in an event loop, as those of grpc are::

        async with balanced_channel(etcd, "greeter") as channel:
            reply = await GreeterStub(channel).SayHello(HelloRequest(name="you"), timeout=5)

    Each call goes to the next instance that is connected. A unary call, or one for a stream of answers, that found no
    connection to be sent on goes to another one. What may have been processed fails, as with any channel, with
    UNAVAILABLE.

    :param wait_s: how long a call waits for an instance, within its own timeout; ``wait_for_ready=True`` in a call: as
        long as its timeout allows.
    :param repeatable: methods (``/package.Service/Method``) that may be done twice: where they fail with UNAVAILABLE
        before there is an answer they are sent to another instance too, at most ten times in all.
    :param credentials: of the channels to the instances; None: nothing is encrypted.
    :param options: of these channels, see grpc's "channel arguments".
    :raises InvalidName: ``name`` or ``namespace`` is none. :raises SettingsError: ``wait_s`` is negative, or a method is
        not written as above.
    """
    check_wait_s(wait_s)
    for method in repeatable:
        if isinstance(repeatable, str) or not method.startswith("/") or method.count("/") != 2:
            raise SettingsError(
                f"repeatable method {method!r}: give a list of methods as in /package.Service/Method"
            )
    registry = Registry(etcd, namespace=namespace)
    backends = Backends(registry.prefix(name), credentials, options)
    return BalancedChannel(registry, name, backends, _Caller(backends, wait_s, repeatable))
