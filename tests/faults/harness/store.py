"""What operators do to a store: compaction, defragmentation, alarms, backups; and what fills it."""

import asyncio
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from leaderjob.etcd import Etcd, NoSpace
from tests.faults.harness.member import Member
from tests.faults.harness.members import Members

_FILLING_BYTES = 512 * 1024


async def compact(member: Member) -> int:
    """Forget all revisions but the present one, which is returned."""
    revision = (await member.status()).revision
    await asyncio.to_thread(member.etcdctl, "compact", str(revision))
    return revision


async def defragment(member: Member) -> None:
    """Write its database anew; meanwhile it answers nothing."""
    await asyncio.to_thread(member.etcdctl, "defrag")


async def fill_quota(members: Members) -> None:
    """Return when etcd has raised NOSPACE; give the cluster a small quota."""
    async with Etcd(members.endpoints) as client:
        try:
            while True:
                await client.put("/filling", bytes(_FILLING_BYTES))
        except NoSpace:
            await client.delete("/filling")


async def disarm(members: Members, *, revision: int | None = None) -> None:
    """Do what it takes to be allowed to write again after :func:`fill_quota`.

    :param revision: what is before it is forgotten; by default all but the present.
    """
    if revision is None:
        await compact(members.every[0])
    else:
        await asyncio.to_thread(members.every[0].etcdctl, "compact", str(revision))
    for member in members.every:
        await defragment(member)
    await asyncio.to_thread(members.every[0].etcdctl, "alarm", "disarm")


def leases(member: Member) -> set[int]:
    """The ids of all leases that etcd knows."""
    found = json.loads(member.etcdctl("lease", "list", "-w", "json"))
    return {int(lease["id"]) for lease in found.get("leases", [])}


class Backup:
    """The stores of all members as they were when this was taken. The cluster is stopped for it."""

    def __init__(self, members: Members, directory: Path) -> None:
        self._members = members
        self._directory = directory

    async def take(self) -> None:
        _kill(self._members.every)
        for member in self._members.every:
            shutil.copytree(member.store, self._directory / member.name)
        await self._members.mend()

    async def restore(self) -> None:
        _kill(self._members.every)
        for member in self._members.every:
            shutil.rmtree(member.store)
            shutil.copytree(self._directory / member.name, member.store)
        await self._members.mend()


def _kill(members: Iterable[Member]) -> None:
    for member in members:
        member.kill()
