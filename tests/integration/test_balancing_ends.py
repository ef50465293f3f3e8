"""A balanced channel that is closed, and one whose store went back."""

import asyncio
import json
from functools import partial

import grpc
import grpc.aio
import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import follow
from leaderjob.telemetry.events import Events
from tests.support.backups import wipe
from tests.support.balanced import answers, stage
from tests.support.greeters import WAIT, greeters
from tests.support.hearing import hearing


async def test_calls_go_on_with_who_is_known_where_the_store_went_back(
    own_etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderjob.recipes.registry.follow", partial(follow, look_again_s=0.2))

    async with stage(own_etcd, namespace) as ours, greeters("a") as (server,):
        entry = json.dumps({"Op": 0, "Addr": server.address}).encode()
        for _ in range(20):
            await ours.client.put(f"{ours.registry.prefix('greeter')}a", entry)
        async with ours.channel() as channel:
            await answers(channel, b"a")
            with hearing() as heard:
                await wipe(own_etcd)
                await heard.until(Events.VIEW_ENDED)
                await answers(channel, b"a")
            assert not heard.all(Events.CONNECTION_TROUBLE), "nothing is tried again"
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "follow greeter"]


@pytest.mark.timeout_s(10)
async def test_who_waits_for_a_channel_that_is_closed_is_told(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        stage(etcd, namespace) as ours,
        greeters("a") as (server,),
        ours.registered(server.address),
    ):
        channel = ours.channel()
        await channel.channel_ready()
        call = asyncio.ensure_future(channel.unary_unary(WAIT)(b""))
        await server.waiting.wait()
        closing = asyncio.create_task(channel.close(grace=60))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.UsageError):
            await channel.channel_ready()
        assert not closing.done()
        server.go_on.set()
        await call
        await closing


@pytest.mark.timeout_s(20)
async def test_a_close_that_is_cancelled_is_cancelled_and_has_closed_everything(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    for turns in range(1, 9):
        async with (
            stage(etcd, namespace) as ours,
            greeters("a") as (server,),
            ours.registered(server.address),
        ):
            channel = ours.channel()
            await channel.channel_ready()
            call = asyncio.ensure_future(channel.unary_unary(WAIT)(b""))
            await server.waiting.wait()
            closing = asyncio.create_task(channel.close(grace=60))
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            names = [task.get_name() for task in asyncio.all_tasks()]
            assert not [name for name in names if name.startswith(("leave ", "connection to ", "follow "))]
            assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
            with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
                await call
