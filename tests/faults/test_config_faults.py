"""Configurations while members of etcd die, the quorum is lost, and who changes them is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import AmbiguousWrite, Etcd, EtcdUnavailable, NoSpace
from leaderjob.recipes import ConfigStore
from tests.faults.harness import every_release, members
from tests.support.commands import environment
from tests.support.configurations import App, root

_WRITER = """
import asyncio, sys
from leaderjob.etcd import Etcd
from leaderjob.recipes import ConfigStore
from tests.support.configurations import App

async def main():
    async with Etcd([sys.argv[1]]) as etcd:
        store = ConfigStore(etcd, App, "app", namespace=sys.argv[2], keep=100)
        for lowest in range(1, 10_000):
            await store.update({"lowest": lowest, "highest": lowest})
            print(lowest, flush=True)

asyncio.run(main())
"""


async def assert_consistent(store: ConfigStore[App]) -> None:
    """The document is that of the latest entry, and each entry begins where the one before it ended."""
    history = await store.history()
    assert await store.values() == history[-1].after
    for entry, following in pairwise(history):
        assert (following.before, following.number) == (entry.after, entry.number + 1)


@pytest.mark.slow
@every_release
async def test_changes_and_watches_go_on_when_the_member_that_they_use_is_killed(
    tmp_path: Path, binary: Path
) -> None:
    async with members(tmp_path, binary=binary) as etcd:
        first = await etcd.leader()
        async with Etcd(etcd.endpoints_from(first)) as client:
            store = ConfigStore(client, App, "app", timeout_s=30)
            async with aclosing(store.watch()) as configurations:
                assert (await anext(configurations)).lowest == 0
                await store.set("lowest", 1)
                first.kill()
                await store.set("lowest", 2)
                assert [(await anext(configurations)).lowest for _ in range(2)] == [1, 2]
            await assert_consistent(store)
            assert len(await store.history()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_without_a_quorum_nothing_changes_and_all_goes_on_when_it_is_back(
    tmp_path: Path, how: str
) -> None:
    async with members(tmp_path) as etcd, Etcd(etcd.endpoints, call_timeout_s=0.5) as client:
        store = ConfigStore(client, App, "app", timeout_s=1.0)
        async with aclosing(store.watch()) as configurations:
            await store.set("lowest", 1)
            seen = [(await anext(configurations)).lowest]
            for member in await etcd.followers():
                if how == "stopped":
                    member.stop()
                else:
                    member.kill()
            with pytest.raises((EtcdUnavailable, AmbiguousWrite)):
                await store.set("lowest", 2)
            await etcd.mend()
            patient = ConfigStore(client, App, "app", timeout_s=30)
            await patient.set("lowest", 3)
            while seen[-1] != 3:
                seen.append((await anext(configurations)).lowest)
            # What was under way may have been done, once, and before what came after it.
            assert seen in ([0, 1, 3], [1, 3], [0, 1, 2, 3], [1, 2, 3])
            await assert_consistent(patient)


@pytest.mark.slow
async def test_who_is_killed_while_it_changes_something_leaves_all_of_it_or_nothing(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    for kill_after in (1, 3, 7):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, etcd.endpoint, namespace],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        try:
            while int(writer.stdout.readline()) < kill_after:
                pass
        finally:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
            writer.stdout.close()

    async with Etcd([etcd.endpoint]) as client:
        store = ConfigStore(client, App, "app", namespace=namespace, keep=100)
        await assert_consistent(store)
        keys = [kv.key for kv in (await client.range(root(namespace))).kvs]
        assert len(keys) == 1 + len(await store.history())
        assert all(kv.lease == 0 for kv in (await client.range(root(namespace))).kvs)


@pytest.mark.slow
async def test_a_full_etcd_refuses_changes_and_goes_on_telling_what_is_in_force(tmp_path: Path) -> None:
    server = EmbeddedEtcd(tmp_path / "etcd", fsync=False, quota_bytes=2 * 1024**2)
    asyncio.run(server.start())

    try:
        async with Etcd([server.endpoint]) as client:
            store = ConfigStore(client, App, "app")
            await store.set("lowest", 1)
            with pytest.raises(NoSpace):
                for number in range(1000):
                    await client.put(f"/filler/{number}", b"x" * 100_000)
            with pytest.raises(NoSpace):
                await store.set("lowest", 2)
            assert await store.get() == App(lowest=1)
            assert len(await store.history()) == 1
    finally:
        server.kill()
