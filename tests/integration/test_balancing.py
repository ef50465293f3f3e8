"""Calls on a balanced channel: who gets them, while instances come, go and die."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from statistics import median

import grpc
import grpc.aio
import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, SettingsError
from leaderjob.etcd import Etcd
from leaderjob.recipes import balanced_channel
from leaderjob.telemetry.events import Events
from tests.support.balanced import answers, stage
from tests.support.cuttable import Cuttable
from tests.support.greeters import COUNT, ECHO, FAIL, HELLO, SUM, WAIT, greeters
from tests.support.hearing import hearing

NOBODY = "127.0.0.1:1"


async def test_calls_go_to_each_instance_in_turn(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        stage(etcd, namespace) as ours,
        greeters("a", "b", "c") as servers,
        ours.registered(*(server.address for server in servers)),
        ours.channel() as channel,
    ):
        await answers(channel, b"a", b"b", b"c")
        hello = channel.unary_unary(HELLO)
        assert Counter([await hello(b"") for _ in range(30)]) == {b"a": 10, b"b": 10, b"c": 10}


async def test_all_four_kinds_of_calls_are_made_as_on_any_channel(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in (1, 2, 3):
            yield number

    def write(number: int) -> bytes:
        return b"%d" % number

    async with (
        stage(etcd, namespace) as ours,
        greeters("a", "b") as servers,
        ours.registered(*(server.address for server in servers)),
        ours.channel() as channel,
    ):
        await answers(channel, b"a", b"b")
        before = [server.asked for server in servers]
        # As generated stubs call these.
        count = channel.unary_stream(COUNT, write, int, _registered_method=True)
        add = channel.stream_unary(SUM, write, int, _registered_method=True)
        echo = channel.stream_stream(ECHO, write, int, _registered_method=True)
        for _ in range(2):
            assert [each async for each in count(3)] == [0, 1, 2]
            assert await add(numbers()) == 6
            assert [each async for each in echo(numbers())] == [1, 2, 3]
            talking = echo()
            for number in (4, 5):
                await talking.write(number)
                assert await talking.read() == number
            await talking.done_writing()
            assert await talking.read() is grpc.aio.EOF
            assert await talking.code() is grpc.StatusCode.OK
        assert [server.asked - asked for server, asked in zip(servers, before, strict=True)] == [4, 4]


async def test_who_comes_gets_calls_within_a_second(etcd: EmbeddedEtcd, namespace: str) -> None:
    took_s: list[float] = []

    async with (
        stage(etcd, namespace) as ours,
        greeters("a", "b") as (first, second),
        ours.registered(first.address),
        ours.channel() as channel,
    ):
        for _ in range(3):
            await answers(channel, b"a")
            async with ours.registered(second.address):
                since = time.monotonic()
                while await channel.unary_unary(HELLO)(b"", timeout=5) != b"b":
                    await asyncio.sleep(0.005)
                took_s.append(time.monotonic() - since)
    assert median(took_s) < 1.0, took_s  # the machine may be busy once


async def test_who_leaves_gets_no_calls_but_ends_its_own(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        stage(etcd, namespace) as ours,
        greeters("a", "b") as (first, second),
        ours.registered(first.address),
        ours.channel() as channel,
    ):
        await answers(channel, b"a")
        async with ours.registered(second.address):
            await answers(channel, b"a", b"b")
            calls = [asyncio.ensure_future(channel.unary_unary(WAIT)(b"")) for _ in range(2)]
            await second.waiting.wait()
        await answers(channel, b"a")
        asked = second.asked
        await answers(channel, b"a")
        assert second.asked == asked
        for server in (first, second):
            server.go_on.set()
        assert sorted(await asyncio.gather(*calls)) == [b"a", b"b"]


async def test_what_others_registered_and_is_no_address_is_passed_over(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with stage(etcd, namespace) as ours, greeters("a", "b") as (first, second):
        prefix = ours.registry.prefix("greeter")
        for number, address in enumerate(
            ("\ud800:80", "dns:///nowhere", f"dns:///{second.address}", "a b:1")
        ):
            await ours.client.put(f"{prefix}{number}", json.dumps({"Op": 0, "Addr": address}).encode())
        with hearing() as heard:
            async with ours.channel(wait_s=5.0) as channel, ours.registered(first.address):
                await answers(channel, b"a")
        told = {each["key"] for each in heard.all(Events.RECORD_QUARANTINED)}
        assert told == {f"{prefix}{number}" for number in range(4)}


async def test_a_call_waits_for_an_instance_as_long_as_it_is_told_to(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        stage(etcd, namespace) as ours,
        greeters("a") as (server,),
        ours.channel(wait_s=0.1) as channel,
    ):
        hello = channel.unary_unary(HELLO)
        with pytest.raises(grpc.aio.AioRpcError, match=r"no instance of .* within 0.1 s") as none:
            await hello(b"", timeout=30)
        assert none.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await hello(b"", timeout=0.05, wait_for_ready=True)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        for stream in (channel.unary_stream(COUNT)(b"1"), channel.stream_stream(ECHO)()):
            with pytest.raises(grpc.aio.AioRpcError, match="no instance"):
                await stream.read()
        patient = asyncio.ensure_future(hello(b"", wait_for_ready=True))
        await asyncio.sleep(0.2)  # longer than others wait
        async with ours.registered(server.address):
            assert await patient == b"a"


async def test_an_instance_that_nobody_listens_for_gets_no_calls(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        stage(etcd, namespace) as ours,
        greeters("a") as (server,),
        ours.registered(NOBODY, server.address, "no-such-host.invalid:80"),
        ours.channel() as channel,
    ):
        hello = channel.unary_unary(HELLO)
        assert [await hello(b"") for _ in range(20)] == [b"a"] * 20


async def test_a_call_that_may_have_been_processed_is_not_made_again(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        stage(etcd, namespace) as ours,
        greeters("a", "b") as servers,
        AsyncExitStack() as stack,
        ours.channel(repeatable=[HELLO]) as channel,  # not those that this is about
    ):
        proxies = [await stack.enter_async_context(Cuttable(server.address)) for server in servers]
        await stack.enter_async_context(ours.registered(*(proxy.endpoint for proxy in proxies)))
        await answers(channel, b"a", b"b")
        before = sum(server.asked for server in servers)
        call = asyncio.ensure_future(channel.unary_unary(WAIT)(b""))
        waiting = [asyncio.create_task(server.waiting.wait()) for server in servers]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        one = 0 if servers[0].waiting.is_set() else 1
        servers[1 - one].go_on.set()  # it would answer
        await proxies[one].refuse()
        with pytest.raises(grpc.aio.AioRpcError) as lost:
            await call
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
        assert sum(server.asked for server in servers) == before + 1
        for task in waiting:
            task.cancel()
        # What a server hands on of another one looks like a refused connection, and is none of ours.
        await proxies[one].accept()
        await answers(channel, b"a", b"b")
        before = sum(server.asked for server in servers)
        with pytest.raises(grpc.aio.AioRpcError, match=r"10\.9\.9\.9"):
            await channel.unary_unary(FAIL)(b"")
        assert sum(server.asked for server in servers) == before + 1


async def test_a_call_that_may_be_repeated_is_made_elsewhere(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        stage(etcd, namespace) as ours,
        greeters("a", "b") as servers,
        AsyncExitStack() as stack,
        ours.channel(repeatable=[WAIT, FAIL]) as channel,
    ):
        proxies = [await stack.enter_async_context(Cuttable(server.address)) for server in servers]
        await stack.enter_async_context(ours.registered(*(proxy.endpoint for proxy in proxies)))
        await answers(channel, b"a", b"b")
        call = asyncio.ensure_future(channel.unary_unary(WAIT)(b""))
        waiting = [asyncio.create_task(server.waiting.wait()) for server in servers]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        one = 0 if servers[0].waiting.is_set() else 1
        await proxies[one].refuse()
        servers[1 - one].go_on.set()
        assert await call == servers[1 - one].name
        for task in waiting:
            task.cancel()
        with pytest.raises(grpc.aio.AioRpcError):  # not for ever
            await channel.unary_unary(FAIL)(b"")


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_call_that_finds_its_instance_gone_goes_to_the_next(
    etcd: EmbeddedEtcd, namespace: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instant in which a channel does not know yet that its server has gone is made longer."""
    from leaderjob.recipes.backends import Backend

    async with (
        stage(etcd, namespace) as ours,
        greeters("a") as (server,),
        ours.registered(NOBODY, server.address),
        ours.channel() as channel,
    ):
        await channel.channel_ready()
        picked: Counter[str] = Counter()
        ready = Backend.ready.fget
        assert ready is not None

        def looks_ready(backend: Backend) -> bool:
            picked[backend.address] += 1
            first = backend.address == NOBODY and picked[NOBODY] == 1
            return first or ready(backend)

        monkeypatch.setattr(Backend, "ready", property(looks_ready))
        for _ in range(4):
            if kind == "unary":
                assert await channel.unary_unary(HELLO)(b"", timeout=5) == b"a"
            else:
                assert [each async for each in channel.unary_stream(COUNT)(b"2")] == [b"0", b"1"]
        assert picked[NOBODY] > 1


async def test_a_cancelled_call_is_cancelled_at_the_instance_and_a_closed_channel_says_so(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        stage(etcd, namespace) as ours,
        greeters("a") as (server,),
        ours.registered(server.address),
    ):
        channel = ours.channel()
        hello, wait = channel.unary_unary(HELLO), channel.unary_unary(WAIT)
        call = wait(b"")
        await server.waiting.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        server.waiting.clear()
        under_way = asyncio.ensure_future(wait(b""))
        await server.waiting.wait()
        closing = asyncio.create_task(channel.close(5))
        while channel.get_state() is not grpc.ChannelConnectivity.SHUTDOWN:
            await asyncio.sleep(0)
        server.go_on.set()
        assert await under_way == b"a"
        await closing
        with pytest.raises(grpc.aio.UsageError, match="closed"):
            await hello(b"")
        await channel.close()


async def test_calls_go_on_while_etcd_does_not_answer(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        stage(etcd, namespace) as ours,
        Etcd([proxy.endpoint], call_timeout_s=0.2) as cut_off,
        greeters("a", "b") as (first, second),
        ours.registered(first.address),
    ):
        await proxy.refuse()
        async with balanced_channel(cut_off, "greeter", namespace=namespace) as channel:
            early = asyncio.ensure_future(channel.unary_unary(HELLO)(b""))
            await asyncio.sleep(0.3)  # the first listing has failed
            await proxy.accept()
            assert await early == b"a"
            await proxy.refuse()
            await answers(channel, b"a")
            await proxy.accept()
            async with ours.registered(second.address):
                await answers(channel, b"a", b"b")


async def test_wrong_options_are_refused() -> None:
    async with Etcd(["127.0.0.1:1"]) as client:
        with pytest.raises(InvalidName):
            balanced_channel(client, "a/b")
        with pytest.raises(SettingsError, match="negative"):
            balanced_channel(client, "greeter", wait_s=-1)
        for wrong in (["Hello"], ["/Hello"], HELLO):
            with pytest.raises(SettingsError, match=r"package\.Service/Method"):
                balanced_channel(client, "greeter", repeatable=wrong)
