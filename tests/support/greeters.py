"""gRPC servers in this process, with all four kinds of methods, that count what they are asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

HELLO = "/Greeter/Hello"
WAIT = "/Greeter/Wait"
FAIL = "/Greeter/Fail"
COUNT = "/Greeter/Count"
SUM = "/Greeter/Sum"
ECHO = "/Greeter/Echo"

FORWARDED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.9.9.9:1: Connection refused"


class Greeter(grpc.GenericRpcHandler):  # type: ignore[misc]
    """One server on a port of its own."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.asked = 0
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.server: Any = None
        self.address = ""

    def service(self, handler_call_details: Any) -> Any:
        kinds = {
            HELLO: grpc.unary_unary_rpc_method_handler(self._hello),
            WAIT: grpc.unary_unary_rpc_method_handler(self._wait),
            FAIL: grpc.unary_unary_rpc_method_handler(self._fail),
            COUNT: grpc.unary_stream_rpc_method_handler(self._count),
            SUM: grpc.stream_unary_rpc_method_handler(self._sum),
            ECHO: grpc.stream_stream_rpc_method_handler(self._echo),
        }
        return kinds.get(handler_call_details.method)

    async def __aenter__(self) -> Self:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers([self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        await self.server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.stop(None)

    async def _hello(self, request: bytes, context: Any) -> bytes:
        self.asked += 1
        return self.name

    async def _wait(self, request: bytes, context: Any) -> bytes:
        self.asked += 1
        self.waiting.set()
        await self.go_on.wait()
        return self.name

    async def _fail(self, request: bytes, context: Any) -> bytes:
        """As a server does that hands on what a server behind it told."""
        self.asked += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, FORWARDED)
        return b""

    async def _count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.asked += 1
        for number in range(int(request)):
            yield b"%d" % number

    async def _sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        self.asked += 1
        return b"%d" % sum([int(each) async for each in requests])

    async def _echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.asked += 1
        async for each in requests:
            yield each


@asynccontextmanager
async def greeters(*names: str) -> AsyncIterator[tuple[Greeter, ...]]:
    async with AsyncExitStack() as stack:
        yield tuple([await stack.enter_async_context(Greeter(name)) for name in names])
