"""What the pages on the registry and on balancing promise, while members of etcd and holders of entries fail."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, EtcdError
from leaderjob.recipes import Followed, Registry, Timing, balanced_channel
from tests.faults.harness import Members, every_release, lines_to, members
from tests.faults.harness.store import compact, disarm, fill_quota, leases
from tests.support.candidates import SHORT
from tests.support.commands import Lines
from tests.support.greeters import HELLO, greeters

HERE = "127.0.0.1:7001"
THERE = "127.0.0.1:7002"


@asynccontextmanager
async def registry(endpoints: list[str], timing: Timing | None = None) -> AsyncIterator[Registry]:
    async with Etcd(endpoints) as client:
        yield Registry(client, timing=timing)


async def until(followed: Followed, *addresses: str) -> None:
    instances = followed.instances
    while sorted(instance.address for instance in instances) != sorted(addresses):
        instances = await followed.changed(instances)


async def nothing_is_left(etcd: Members) -> None:
    while await asyncio.to_thread(leases, etcd.every[0]):
        await asyncio.sleep(0.05)


@every_release
@pytest.mark.slow
@pytest.mark.timeout_s(90)
async def test_an_instance_stays_registered_while_each_member_in_turn_is_killed(
    tmp_path: Path, binary: Path
) -> None:
    seen: list[str] = []

    async def watch(ours: Registry) -> None:
        async with aclosing(ours.watch("greeter")) as changes:
            async for change in changes:
                seen.append(f"{change.kind} {change.instance.address}")

    async with (
        members(tmp_path, binary=binary) as etcd,
        registry(etcd.endpoints) as ours,
        ours.following("greeter") as followed,
        ours.register("greeter", HERE),
        greeters("a") as (server,),
    ):
        watching = asyncio.create_task(watch(ours))
        await until(followed, HERE)
        leader = await etcd.leader()
        for member in (leader, *etcd.besides(leader)):
            member.kill()
            assert [each.address for each in ours.instances("greeter")] == [HERE]
            async with ours.register("greeter", server.address):
                await until(followed, HERE, server.address)
            await until(followed, HERE)
            await member.restart()
        watching.cancel()
        await asyncio.wait([watching])
        assert [each for each in seen if HERE in each] == [f"created {HERE}"]
        assert len(seen) == 7, seen


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.timeout_s(45)
async def test_calls_go_on_without_a_quorum_and_who_was_registered_is_so_again_once(
    tmp_path: Path, how: str
) -> None:
    async with members(tmp_path) as etcd:
        async with (
            Etcd(etcd.endpoints) as client,
            registry(etcd.endpoints, SHORT) as ours,
            ours.following("greeter") as followed,
            greeters("a", "b") as (first, second),
            ours.register("greeter", first.address),
            balanced_channel(client, "greeter") as channel,
        ):
            hello = channel.unary_unary(HELLO)
            assert await hello(b"", timeout=5) == b"a"
            await until(followed, first.address)
            for member in await etcd.followers():
                if how == "stopped":
                    member.stop()
                else:
                    member.kill()
            with pytest.raises(EtcdError):
                async with ours.register("greeter", second.address):
                    pass
            await asyncio.sleep(2 * SHORT.ttl_s)  # the outage has to be longer than the lease
            assert await hello(b"", timeout=5) == b"a"
            assert [each.address for each in ours.instances("greeter")] == [first.address]
            await etcd.mend()
            async with ours.register("greeter", second.address):
                await until(followed, first.address, second.address)
                while await hello(b"", timeout=5) != b"b":
                    pass
            assert [each.address for each in await ours.discover("greeter")] == [first.address]
        await nothing_is_left(etcd)


@pytest.mark.slow
async def test_who_is_cut_off_is_gone_after_its_ttl_and_back_when_it_hears_again(tmp_path: Path) -> None:
    async with (
        members(tmp_path) as etcd,
        lines_to(etcd.every) as lines,
        registry(lines.endpoints, SHORT) as cut_off,
        registry(etcd.endpoints) as others,
        others.following("greeter") as followed,
        cut_off.following("greeter") as its_own,
        cut_off.register("greeter", HERE),
    ):
        await until(followed, HERE)
        await until(its_own, HERE)
        lines.cut()
        await until(followed)
        assert [each.address for each in its_own.instances] == [HERE]
        async with others.register("greeter", THERE):
            lines.reset()
            lines.heal()
            await until(followed, HERE, THERE)
            await until(its_own, HERE, THERE)


@pytest.mark.slow
async def test_compactions_take_nothing_from_a_registry_and_who_was_cut_off_catches_up(
    tmp_path: Path,
) -> None:
    async with (
        members(tmp_path) as etcd,
        lines_to(etcd.every) as lines,
        registry(lines.endpoints) as late,
        registry(etcd.endpoints) as ours,
        late.following("greeter") as followed,
        ours.register("greeter", HERE),
    ):
        await until(followed, HERE)
        lines.cut()
        async with ours.register("greeter", THERE):
            pass
        async with ours.register("greeter", THERE):
            await compact(etcd.every[0])
            lines.reset()
            lines.heal()
            await until(followed, HERE, THERE)
        await until(followed, HERE)


@pytest.mark.slow
@pytest.mark.timeout_s(90)
async def test_where_etcd_is_full_nobody_new_is_registered_and_nobody_is_lost(tmp_path: Path) -> None:
    async with (
        members(tmp_path, quota_bytes=2 * 1024 * 1024) as etcd,
        registry(etcd.endpoints, SHORT) as ours,
        ours.register("greeter", HERE) as registration,
    ):
        key = await registration.wait_registered()
        await fill_quota(etcd)
        with pytest.raises(EtcdError, match="NOSPACE"):
            async with ours.register("greeter", THERE):
                pass
        await asyncio.sleep(2 * SHORT.ttl_s)  # keepalives go on
        assert [each.key for each in await ours.discover("greeter")] == [key]
        await disarm(etcd)
        async with ours.register("greeter", THERE):
            assert len(await ours.discover("greeter")) == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
@pytest.mark.timeout_s(40)
async def test_who_is_killed_or_stopped_is_gone_after_its_ttl_and_who_goes_on_is_back(
    etcd: EmbeddedEtcd, namespace: str, how: signal.Signals
) -> None:
    command = [sys.executable, "-m", "leaderjob", "service", "register", "--etcd", etcd.endpoint]
    command += ["--namespace", namespace, "--ttl", "2s", "greeter", HERE, "--", "sh", "-c"]

    with Lines(*command, "echo up; exec sleep 1000") as holder:
        async with (
            Etcd([etcd.endpoint]) as client,
            Registry(client, namespace=namespace).following("greeter") as followed,
        ):
            await asyncio.to_thread(holder.until, lambda line: line == "up")
            await until(followed, HERE)
            os.kill(holder.pid, how)
            await until(followed)
            if how is signal.SIGSTOP:
                os.kill(holder.pid, signal.SIGCONT)
                await until(followed, HERE)
                os.kill(holder.pid, signal.SIGTERM)
                await until(followed)
