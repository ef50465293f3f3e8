"""Who offers a service, and where: registered on leases, found by name."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from leaderjob.errors import LeaderjobError
from leaderjob.etcd import Etcd, EtcdError, HistoryWentBack, follow
from leaderjob.names import check_name
from leaderjob.recipes.errors import NotFollowed
from leaderjob.recipes.instance import Change, Instance, Instances, check_address, decode, encode
from leaderjob.recipes.place import place
from leaderjob.recipes.registration import Registration
from leaderjob.recipes.session import Timing
from leaderjob.telemetry.events import Events, emit

_KIND = "services"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class Followed:
    """The instances of a service, always at hand. May lag; goes on with what it knows while etcd does not answer."""

    def __init__(self, etcd: Etcd, prefix: str) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._instances: tuple[Instance, ...] = ()
        self._ended: LeaderjobError | None = None
        self._changed = asyncio.Event()

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those who are registered as far as is known, the oldest entry first."""
        return self._instances

    async def changed(self, seen: tuple[Instance, ...]) -> tuple[Instance, ...]:
        """Wait until :attr:`instances` is another than ``seen``, and return it; at once, where it is by now::

            instances = followed.instances
            while True:
                ...  # whatever takes its time: what changes meanwhile is not missed
                instances = await followed.changed(instances)

        :raises HistoryWentBack: it will not change any more: the store went back, and the client asks it nothing more.
        :raises NotFollowed: nor will it here: its ``async with`` was left.
        """
        while self._instances == seen:
            if self._ended is not None:
                raise self._ended
            await self._changed.wait()
        return self._instances

    async def keep(self, *, listed: asyncio.Event) -> None:
        """Until it is cancelled, or the store went back. :raises EtcdError: it could not even be listed once."""
        pause_s = _FIRST_PAUSE_S
        while True:
            instances = Instances()
            try:
                async with aclosing(follow(self._etcd, self._prefix)) as batches:
                    async for batch in batches:
                        instances.take(batch)
                        self._set(instances.now)
                        listed.set()
                        pause_s = _FIRST_PAUSE_S
            except HistoryWentBack as error:
                emit(Events.VIEW_ENDED, prefix=self._prefix, reason=error)
                if not listed.is_set():
                    raise
                self.end(error)
                return
            except EtcdError as error:
                if not listed.is_set():
                    raise
                emit(Events.CONNECTION_TROUBLE, reason=error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def end(self, reason: LeaderjobError) -> None:
        """It does not change any more, and who waits for that is told so by ``reason``."""
        self._ended = self._ended or reason
        self._notify()

    def _set(self, instances: tuple[Instance, ...]) -> None:
        if instances != self._instances:
            self._instances = instances
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Registry:
    """The services of a namespace::

        registry = Registry(etcd)
        async with registry.register("greeter", "10.0.0.5:50051"):
            ...

    :param timing: of the leases of what is registered here.
    :raises InvalidName: ``namespace`` cannot be part of a key.
    """

    def __init__(self, etcd: Etcd, *, namespace: str = "default", timing: Timing | None = None) -> None:
        self._etcd = etcd
        self._namespace = check_name("namespace", namespace)
        self._timing = timing or Timing()
        self._followed: dict[str, list[Followed]] = {}

    def prefix(self, name: str) -> str:
        """Of the keys of a service. :raises InvalidName: it is no name."""
        return place(_KIND, name, self._namespace)

    def register(self, name: str, address: str, *, metadata: Mapping[str, Any] | None = None) -> Registration:
        """To be entered: registered inside ``async with``, on a lease of its own, and again whenever that is lost or the
        entry is deleted. SIGTERM leaves no ``async with``, unless the program sees to it: docs/recipes/registry.md has how.

        :param address: ``HOST:PORT`` under which others reach the instance.
        :raises InvalidName: ``name`` is none. :raises SettingsError: nobody could connect to ``address``, or the
            metadata is not JSON.
        """
        value = encode(check_address(address), metadata or {})
        return Registration(self._etcd, self.prefix(name), address, value, self._timing)

    async def discover(self, name: str) -> tuple[Instance, ...]:
        """Who is registered now, by a linearizable read; the oldest entry first. :raises EtcdError: no answer."""
        found = await self._etcd.range(self.prefix(name))
        return tuple(instance for kv in found.kvs if (instance := decode(kv)) is not None)

    async def services(self) -> dict[str, tuple[Instance, ...]]:
        """Every service that has an instance now. :raises EtcdError: no answer."""
        root = f"/leaderjob/{self._namespace}/{_KIND}/"
        services: dict[str, list[Instance]] = {}
        for kv in (await self._etcd.range(root)).kvs:
            name, slash, _ = kv.key.removeprefix(root).partition("/")
            instance = decode(kv) if slash else None
            if instance is not None:
                services.setdefault(name, []).append(instance)
        return {name: tuple(services[name]) for name in sorted(services)}

    async def watch(self, name: str) -> AsyncGenerator[Change, None]:
        """Who comes and goes, beginning with those who are there. Runs until closed.

        :raises EtcdError: etcd cannot be listed when it begins; later that is waited for.
        """
        instances = Instances()
        async with aclosing(follow(self._etcd, self.prefix(name))) as batches:
            async for batch in batches:
                for change in instances.take(batch):
                    yield change

    @asynccontextmanager
    async def following(self, name: str) -> AsyncIterator[Followed]:
        """Keep the instances of a service at hand, for :meth:`instances`, while this is open.

        :raises EtcdError: etcd cannot be listed when it begins; later the view stays as it is until it can. It stays so
            for good where the store went back, see :meth:`Followed.changed`.
        """
        followed, listed = Followed(self._etcd, self.prefix(name)), asyncio.Event()
        keeping = asyncio.create_task(followed.keep(listed=listed), name=f"instances of {name}")
        first = asyncio.create_task(listed.wait())
        views = self._followed.setdefault(name, [])
        try:
            await asyncio.wait([keeping, first], return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            views.append(followed)
            yield followed
        finally:
            if followed in views:
                views.remove(followed)
            followed.end(NotFollowed(name))
            for task in (keeping, first):
                task.cancel()
            await asyncio.gather(keeping, first, return_exceptions=True)

    def instances(self, name: str) -> tuple[Instance, ...]:
        """Those of a service that is followed, as far as is known; never waits.

        :raises NotFollowed: nobody follows it here.
        """
        views = self._followed.get(name)
        if not views:
            raise NotFollowed(name)
        return views[0].instances
