"""A gRPC server that registers itself: ``python server.py ETCD``, as often as you like."""

import asyncio
import os
import signal
import sys

import grpc.aio

from leaderjob.etcd import Etcd
from leaderjob.recipes import Registry

DRAIN_S = 0.5
"""Within this time clients have heard that an instance leaves."""


async def say_hello(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    """What a generated servicer has as a method; without generated code, messages are bytes."""
    return b"Hello, %s, from %d" % (request, os.getpid())


async def main(etcd: str) -> None:
    server = grpc.aio.server()
    hello = grpc.unary_unary_rpc_method_handler(say_hello)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Greeter", {"SayHello": hello})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)

    async with Etcd([etcd]) as client:
        async with Registry(client).register("greeter", f"127.0.0.1:{port}", metadata={"pid": os.getpid()}):
            print(f"serving on port {port}", flush=True)
            await asked_to_stop.wait()
        # First unregistered, then drained: who is being asked something answers it.
        await asyncio.sleep(DRAIN_S)
        await server.stop(grace=10)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
