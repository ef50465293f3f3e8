"""A cluster of etcd members of a chosen release, on a network that can be broken."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from tests.faults.harness.disk import Disk
from tests.faults.harness.link import Link
from tests.faults.harness.member import Member, Status
from tests.faults.harness.namespaces import namespace_links
from tests.faults.harness.proxies import proxy_links
from tests.support.etcd import each_release, program
from tests.support.machines import needs_machines
from tests.support.needs import missing

Network = Literal["namespaces", "proxies"]

_POLL_S = 0.03


def best_network() -> Network:
    """Machines of their own where they can be made, loopback otherwise."""
    return "proxies" if missing("machines") else "namespaces"


every_release = pytest.mark.parametrize("binary", each_release())
"""Run the test with each line of releases that there is, as ``binary``; in a hurry with the default one only."""

each_network = pytest.mark.parametrize(
    "network", [pytest.param("namespaces", marks=needs_machines), "proxies"]
)
"""Run the test on each kind of network, as ``network``."""


class Members:
    """All members of one cluster, running.

    :param spares: are not started, and no members yet. :param ids: of all members, by name, once they are known.
    """

    def __init__(self, every: Sequence[Member], spares: Sequence[Member], ids: dict[str, int]) -> None:
        self.every = tuple(every)
        self._spares = list(spares)
        self._ids = ids

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.every]

    def endpoints_from(self, first: Member) -> list[str]:
        """All endpoints, in the order in which a client that begins with ``first`` tries them."""
        return [first.endpoint, *(member.endpoint for member in self.besides(first))]

    def besides(self, *members: Member) -> list[Member]:
        return [member for member in self.every if member not in members]

    async def leader(self, *, other_than: Member | None = None) -> Member:
        """The leader that a majority agrees on, as soon as it does."""
        return await self.leader_among(self.every, other_than=other_than)

    async def leader_among(self, members: Sequence[Member], *, other_than: Member | None = None) -> Member:
        """The same, where the other members would have nothing true to say."""
        while True:
            said = await asyncio.gather(*(member.status() for member in members), return_exceptions=True)
            for member in self.besides(*([other_than] if other_than else [])):
                follow = [
                    status for status in said if isinstance(status, Status) and status.leader == member.id
                ]
                if len(follow) > len(self.every) // 2 and len({status.raft_term for status in follow}) == 1:
                    return member
            await asyncio.sleep(_POLL_S)

    async def followers(self) -> list[Member]:
        return self.besides(await self.leader())

    async def replace(self, old: Member) -> Member:
        """Take one out of the cluster for good, and a spare one in, which has an address of its own; returns that one
        when it is healthy. The old one's process is left alone."""
        new, leader = self._spares.pop(0), await self.leader(other_than=old)
        await asyncio.to_thread(leader.etcdctl, "member", "remove", f"{old.id:x}")
        peer_url = f"--peer-urls=http://{new.link.addresses.for_peers}"
        await asyncio.to_thread(leader.etcdctl, "member", "add", new.name, peer_url)
        self.every = (*self.besides(old), new)
        new.join(self.every, existing=True)
        await self.until_healthy()
        return new

    async def learner(self) -> Member:
        """Add a spare one as a learner, which is none of :attr:`every`; returns it when it knows who leads."""
        new, leader = self._spares.pop(0), await self.leader()
        peer_url = f"--peer-urls=http://{new.link.addresses.for_peers}"
        await asyncio.to_thread(leader.etcdctl, "member", "add", new.name, "--learner", peer_url)
        new.join([*self.every, new], existing=True)
        while not await new.knows(leader):
            await asyncio.sleep(_POLL_S)
        return new

    async def mend(self) -> None:
        """Undo every fault but what was done to the store, and return when all are healthy."""
        for member in self.every:
            await member.mend()
        await self.until_healthy()
        await self.leader()

    async def until_healthy(self) -> None:
        """Return when each member has answered a linearizable read."""
        await asyncio.gather(*(member.until_healthy() for member in self.every))
        self._ids.update({member.name: member.id for member in self.every})


@asynccontextmanager
async def members(
    directory: Path,
    count: int = 3,
    *,
    binary: Path | None = None,
    network: Network | None = None,
    disk_for: Literal["log", "everything"] | None = None,
    quota_bytes: int | None = None,
    election_ms: int = 1000,
    spares: int = 0,
) -> AsyncIterator[Members]:
    """A healthy cluster; everything that was made for it is gone at the end.

    :param binary: of etcd; that of the first of :func:`tests.support.etcd.releases` by default.
    :param network: see :func:`best_network`, which is the default.
    :param disk_for: what each member has on a disk of its own, which can be frozen; needs namespaces. With the
        log on one it can no longer commit, and all that it answers from memory it goes on answering.
    :param election_ms: silence after which followers elect another leader; the heartbeat is a tenth of it.
    :param spares: how many more there are for :meth:`Members.replace`.
    """
    names = [f"m{number}" for number in range(1, count + spares + 1)]
    flags = [f"--election-timeout={election_ms}", f"--heartbeat-interval={election_ms // 10}"]
    if quota_bytes is not None:
        flags.append(f"--quota-backend-bytes={quota_bytes}")
    if disk_for is None:
        flags.append("--unsafe-no-fsync")
    if spares:
        flags.append("--strict-reconfig-check=false")  # else nobody is added before all were there for 5 s
    ids: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        links = await _links(stack, network, names, directory, ids)
        flags.append(f"--initial-cluster-token={directory.name}")
        made = []
        for name in names:
            place = directory / name
            place.mkdir(parents=True, exist_ok=True)
            disk, store, log = None, place / "store", place / "store/member/wal"
            if disk_for is not None:
                disk = Disk(place / "disk.img", place / "disk")
                disk.make()
                store = disk.directory / "store" if disk_for == "everything" else store
                log = disk.directory / "wal"
            member = Member(
                name,
                binary=binary or program("etcd"),
                link=links[name],
                store=store,
                flags=[*flags, f"--wal-dir={log}"],
                disk=disk,
            )
            stack.callback(member.kill)
            made.append(member)
        cluster = Members(made[:count], made[count:], ids)
        for member in cluster.every:
            member.join(cluster.every, existing=False)
        await cluster.until_healthy()
        await cluster.leader()
        yield cluster


async def _links(
    stack: AsyncExitStack,
    network: Network | None,
    names: Sequence[str],
    directory: Path,
    ids: Mapping[str, int],
) -> Mapping[str, Link]:
    if (network or best_network()) == "namespaces":
        return stack.enter_context(namespace_links(names, directory))
    return await stack.enter_async_context(proxy_links(names, ids))
