"""Random registrations, faults and interventions: at rest, the registry is who is registered, each once."""

import asyncio
import secrets
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.clock import boottime
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, EtcdError, EventKind
from leaderjob.recipes import Change, Instance, Registration, Registry
from tests.property.profile import profile
from tests.support.candidates import SHORT
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl
from tests.support.streams import run_with_streams

_AT_REST_WITHIN_S = 6 * SHORT.ttl_s
_ANSWERED_WITHIN_S = 0.9
_SERVICE = "greeter"


class Server:
    """Wants to be registered, or not; behind a proxy of its own."""

    def __init__(self, address: str, registry: Registry, proxy: Cuttable) -> None:
        self.address = address
        self.proxy = proxy
        self.faults = 0
        """How often something was done to the connection."""
        self.registration: Registration | None = None
        self._registry = registry
        self._task: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        return self._task is not None

    def register(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._be_registered())

    async def _be_registered(self) -> None:
        while True:
            self.registration = self._registry.register(_SERVICE, self.address)
            try:
                async with self.registration:
                    await asyncio.Event().wait()
            except EtcdError:
                await asyncio.sleep(0.05)

    async def unregister(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()
            self.registration = None


class Town:
    """All servers, an operator that nothing stands in the way of, and two observers behind a proxy of theirs."""

    def __init__(self, endpoint: str, count: int) -> None:
        self.endpoint = endpoint
        self.count = count
        self.servers: list[Server] = []
        self.watched: dict[str, Instance] = {}
        self._stack = AsyncExitStack()
        self._namespace = secrets.token_hex(4)

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        self.operator = await enter(Etcd([self.endpoint]))
        self.registry = Registry(self.operator, namespace=self._namespace)
        self.observers = await enter(Cuttable(self.endpoint))
        observing = Registry(await enter(Etcd([self.observers.endpoint])), namespace=self._namespace)
        self.followed = await enter(observing.following(_SERVICE))
        watching = asyncio.create_task(self._watch(observing))
        self._stack.callback(watching.cancel)
        for number in range(self.count):
            proxy = await enter(Cuttable(self.endpoint))
            client = await enter(Etcd([proxy.endpoint], call_timeout_s=0.3))
            registry = Registry(client, namespace=self._namespace, timing=SHORT)
            self.servers.append(Server(f"127.0.0.1:{number + 1}", registry, proxy))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            await server.unregister()
        await self._stack.aclose()

    async def _watch(self, registry: Registry) -> None:
        async with aclosing(registry.watch(_SERVICE)) as changes:
            async for change in changes:
                self._take(change)

    def _take(self, change: Change) -> None:
        key = change.instance.key
        assert (key in self.watched) is (change.kind is not EventKind.CREATED), change
        if change.kind is EventKind.DELETED:
            del self.watched[key]
        else:
            self.watched[key] = change.instance

    async def addresses(self) -> list[str]:
        return sorted(instance.address for instance in await self.registry.discover(_SERVICE))

    async def comes_to_rest(self) -> None:
        """Everybody sees the same: those who want to be registered, each once, and each under the key it knows."""
        wanted = sorted(server.address for server in self.servers if server.wanted)
        give_up_at = time.monotonic() + _AT_REST_WITHIN_S
        while True:
            found = await self.registry.discover(_SERVICE)
            views = (found, self.followed.instances, tuple(self._in_order()))
            known = sorted(str(each.registration.key) for each in self.servers if each.registration)
            if (
                [sorted(each.address for each in view) for view in views] == [wanted] * 3
                and len(set(views)) == 1
                and known == sorted(each.key for each in found)
            ):
                break
            assert time.monotonic() < give_up_at, f"{wanted} want to be registered, as {known}; seen: {views}"
            await asyncio.sleep(0.01)

    def _in_order(self) -> list[Instance]:
        return sorted(self.watched.values(), key=lambda each: (each.revision, each.key))


class Step(Protocol):
    async def take(self, town: Town) -> None: ...


@dataclass(frozen=True)
class _One:
    number: int

    def of(self, town: Town) -> Server:
        return town.servers[self.number % town.count]


@dataclass(frozen=True)
class Register(_One):
    async def take(self, town: Town) -> None:
        self.of(town).register()


@dataclass(frozen=True)
class Unregister(_One):
    async def take(self, town: Town) -> None:
        server, began_at = self.of(town), boottime()
        await server.unregister()
        if not server.faults and boottime() < began_at + _ANSWERED_WITHIN_S:
            assert server.address not in await town.addresses(), "it left, and is still registered"


@dataclass(frozen=True)
class Revoke(_One):
    """An operator revokes the lease, or deletes the entry alone."""

    entry_only: bool

    async def take(self, town: Town) -> None:
        registration = self.of(town).registration
        found = await town.operator.get(registration.key) if registration and registration.key else None
        if found is not None and self.entry_only:
            await town.operator.delete(found.key)
        elif found is not None:
            await town.operator.revoke(found.lease)


@dataclass(frozen=True)
class Cut(_One):
    requests: bool
    answers: bool

    async def take(self, town: Town) -> None:
        server = self.of(town)
        server.faults += 1
        server.proxy.cut(requests=self.requests, answers=self.answers)


@dataclass(frozen=True)
class Heal(_One):
    lost: bool

    async def take(self, town: Town) -> None:
        server = self.of(town)
        server.faults += 1
        if self.lost:
            server.proxy.reset()
        server.proxy.heal()


@dataclass(frozen=True)
class Reset(_One):
    async def take(self, town: Town) -> None:
        server = self.of(town)
        server.faults += 1
        server.proxy.reset()


@dataclass(frozen=True)
class DropObservers:
    async def take(self, town: Town) -> None:
        town.observers.reset()


@dataclass(frozen=True)
class Compact:
    async def take(self, town: Town) -> None:
        revision = (await town.operator.range("/nothing")).revision
        await asyncio.to_thread(etcdctl, town.endpoint, "compact", str(revision))


@dataclass(frozen=True)
class Obstruct:
    """Somebody writes, and takes away again, what is no instance."""

    async def take(self, town: Town) -> None:
        key = f"{town.registry.prefix(_SERVICE)}{secrets.token_hex(2)}"
        await town.operator.put(key, b'{"Op":0,"Addr":"10.9.9.9:9"}')
        await town.operator.put(key, b"no instance")


@dataclass(frozen=True)
class Pass:
    seconds: float

    async def take(self, town: Town) -> None:
        await asyncio.sleep(self.seconds)


_NUMBERS = st.integers(0, 2)
_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Register, _NUMBERS),
    st.builds(Register, _NUMBERS),
    st.builds(Unregister, _NUMBERS),
    st.builds(Revoke, _NUMBERS, st.booleans()),
    st.builds(Cut, _NUMBERS, st.booleans(), st.booleans()),
    st.builds(Heal, _NUMBERS, st.booleans()),
    st.builds(Reset, _NUMBERS),
    st.builds(DropObservers),
    st.builds(Compact),
    st.builds(Obstruct),
    st.builds(Pass, st.sampled_from([0.01, 0.05, 0.2])),
)


async def _live_through(server: EmbeddedEtcd, count: int, steps: list[Step]) -> None:
    async with Town(server.endpoint, count) as town:
        for step in steps:
            await step.take(town)
        for number in range(count):
            await Heal(number, lost=False).take(town)
        await town.comes_to_rest()
        for each in town.servers:
            await each.unregister()
        await town.comes_to_rest()


@profile(examples=4)
@given(count=st.integers(1, 3), steps=st.lists(_STEPS, min_size=4, max_size=12))
@example(count=2, steps=[Register(0), Register(1), Pass(0.05), Revoke(0, True), Revoke(1, False), Compact()])
@example(count=1, steps=[Register(0), Pass(0.05), Cut(0, True, True), Pass(2.5), Heal(0, True)])
@example(count=1, steps=[Cut(0, False, True), Register(0), Pass(0.05), Unregister(0), Register(0)])
def _hold_against_the_model(server: EmbeddedEtcd, count: int, steps: list[Step]) -> None:
    run_with_streams(_live_through(server, count, steps), timeout_s=90)


def test_at_rest_everybody_sees_who_is_registered_each_once_and_nothing_is_left(server: EmbeddedEtcd) -> None:
    _hold_against_the_model(server)
    deadline = time.monotonic() + 3 * SHORT.ttl_s
    while "found 0 leases" not in (listed := etcdctl(server.endpoint, "lease", "list")):
        assert time.monotonic() < deadline, f"somebody keeps these alive: {listed}"
        time.sleep(0.1)
