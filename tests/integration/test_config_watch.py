"""Configurations that are watched, and changes whose answers are lost."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import AmbiguousWrite, Etcd
from leaderjob.recipes import ConfigStore
from leaderjob.telemetry.events import Events, listen
from tests.support.configurations import FOREIGN, App, Mute, opened, root
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl, every_release


async def following(configurations: AsyncGenerator[App, None], count: int) -> list[int]:
    return [(await anext(configurations)).lowest for _ in range(count)]


@every_release("etcd")
async def test_a_watcher_sees_each_change_once_and_in_order(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace) as store, aclosing(store.watch()) as configurations:
        assert await following(configurations, 1) == [0]
        for lowest in (1, 2, 2, 3):
            await store.update({"lowest": lowest, "highest": lowest})
        await store.unset("lowest")
        assert await following(configurations, 5) == [1, 2, 2, 3, 0]


@pytest.mark.parametrize("value", FOREIGN)
async def test_a_watcher_keeps_the_last_valid_configuration_and_is_told_why(
    etcd: EmbeddedEtcd, namespace: str, value: bytes
) -> None:
    told: list[str] = []

    def hear(event: Events, fields: Mapping[str, Any]) -> None:
        if event is Events.CONFIG_INVALID:
            told.append(fields["key"])

    stop = listen(hear)
    try:
        key = f"{root(namespace)}current"
        async with opened(etcd, namespace) as store, Etcd([etcd.endpoint]) as client:
            await store.set("lowest", 1)
            async with aclosing(store.watch()) as configurations:
                assert await following(configurations, 1) == [1]
                await client.put(key, value)
                await store.rollback(1)
                await client.put(f"{key}-of-others", b"")
                await client.delete(key)
                assert await following(configurations, 2) == [1, 0]
            assert told == [key] or set(told) == {key}
            await client.put(key, value)
            async with aclosing(store.watch()) as configurations:
                assert await following(configurations, 1) == [1]
    finally:
        stop()


async def test_a_watcher_goes_on_after_it_was_cut_off_and_etcd_has_compacted(
    own_etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(own_etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
        opened(own_etcd, namespace) as outside,
    ):
        store = ConfigStore(client, App, "app", namespace=namespace)
        await outside.set("note", "x")
        async with aclosing(store.watch()) as configurations:
            assert await following(configurations, 1) == [0]
            next_one = asyncio.ensure_future(following(configurations, 1))
            await asyncio.sleep(0)
            await proxy.refuse()
            for lowest in (1, 2, 3):
                await outside.set("lowest", lowest)
            async with Etcd([own_etcd.endpoint]) as operator:
                await operator.delete(f"{root(namespace)}current")
                await outside.set("lowest", 3)
                revision = (await operator.range(root(namespace))).revision
            etcdctl(own_etcd.endpoint, "compact", str(revision))
            await proxy.accept()
            assert await next_one == [3]
            await outside.set("lowest", 4)
            assert await following(configurations, 1) == [4]


@pytest.mark.parametrize(
    "plan",
    [["done"], ["lost"], ["lost", "lost", "done"], ["done", "done"], ["done", "unavailable"], ["overtaken"]],
)
async def test_a_change_whose_answer_is_lost_is_done_once(
    etcd: EmbeddedEtcd, namespace: str, plan: list[str]
) -> None:
    async with Mute([etcd.endpoint]) as client:
        client.plan, client.namespace = list(plan), namespace
        store = ConfigStore(client, App, "app", namespace=namespace)
        entry = await store.set("lowest", 1)
        assert entry.number == 1
        changes = [entry.what for entry in await store.history()]
        assert changes == ["set lowest"] + ["set note"] * ("overtaken" in plan)


async def test_a_change_that_got_no_answer_and_was_not_done_is_done_on_top_of_what_came_first(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Mute([etcd.endpoint]) as client:
        client.plan, client.namespace = ["beaten"], namespace
        store = ConfigStore(client, App, "app", namespace=namespace)
        assert (await store.set("lowest", 1)).number == 2
        assert await store.values() == {"note": "theirs", "lowest": 1}


async def test_nobody_guesses_whether_a_change_was_done_whose_entry_is_gone_by_now(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Mute([etcd.endpoint]) as client:
        client.plan, client.namespace, client.keep = ["overtaken"], namespace, 1
        store = ConfigStore(client, App, "app", namespace=namespace)
        with pytest.raises(AmbiguousWrite):
            await store.set("lowest", 1)


async def test_a_change_that_never_gets_an_answer_says_so_in_time(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Mute([etcd.endpoint]) as client:
        client.plan = ["lost"] * 1000
        store = ConfigStore(client, App, "app", namespace=namespace, timeout_s=0.3)
        with pytest.raises(AmbiguousWrite):
            await store.set("lowest", 1)
        client.plan = []
        assert await store.history() == ()


async def test_a_change_that_is_cancelled_is_done_whole_or_not_at_all(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
        opened(etcd, namespace) as outside,
    ):
        store = ConfigStore(client, App, "app", namespace=namespace)
        await store.get()
        async with aclosing(outside.watch()) as configurations:
            assert await following(configurations, 1) == [0]
            proxy.delay_s = 0.3
            changing = asyncio.ensure_future(store.set("lowest", 1))
            assert await following(configurations, 1) == [1]  # done, and the answer is under way
            changing.cancel()
            await asyncio.wait([changing])
            assert changing.cancelled()
        await outside.set("lowest", 2)
        assert [entry.after for entry in await outside.history()] == [{"lowest": 1}, {"lowest": 2}]


async def test_a_store_whose_client_is_closed_says_so(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace) as store:
        pass
    for use in (store.get(), store.set("lowest", 1), store.history(), anext(store.watch())):
        with pytest.raises(LeaderjobError, match="closed"):
            await use
