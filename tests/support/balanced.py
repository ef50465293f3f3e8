"""Balanced channels to a service of which a test registers the instances."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import BalancedChannel, Registry, balanced_channel
from tests.support.candidates import SHORT
from tests.support.greeters import HELLO


class Stage:
    def __init__(self, client: Etcd, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.registry = Registry(client, namespace=namespace, timing=SHORT)

    def channel(self, **options: Any) -> BalancedChannel:
        return balanced_channel(self.client, "greeter", namespace=self.namespace, **options)

    @asynccontextmanager
    async def registered(self, *addresses: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for address in addresses:
                await stack.enter_async_context(self.registry.register("greeter", address))
            yield


@asynccontextmanager
async def stage(etcd: EmbeddedEtcd, namespace: str) -> AsyncIterator[Stage]:
    async with Etcd([etcd.endpoint]) as client:
        yield Stage(client, namespace)


async def answers(channel: BalancedChannel, *wanted: bytes) -> None:
    """Return when calls are answered by exactly these, in turn."""
    hello = channel.unary_unary(HELLO)
    recent: list[bytes] = []
    while set(recent[-2 * len(wanted) - 2 :]) != set(wanted) or len(recent) < 2 * len(wanted) + 2:
        recent.append(await hello(b"", timeout=5))
        await asyncio.sleep(0.005)
