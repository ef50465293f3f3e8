"""Waiting for one event among several keys, on one stream."""

import asyncio

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.etcd.stream import Watched, until_event
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl, every_release
from tests.support.stage import in_use_by

KEYS = ("/one", "/two")


async def until_watched(server: EmbeddedEtcd, watches: int) -> None:
    """Return once there are so many watches, all on one stream."""
    wanted = {"watches": watches, "streams": min(watches, 1)}
    while not wanted.items() <= (await asyncio.to_thread(in_use_by, server)).items():
        await asyncio.sleep(0.02)


async def keys_are_there(etcd: Etcd) -> int:
    for key in KEYS:
        revision = await etcd.put(key, b"")
    return revision


@pytest.mark.parametrize("key", KEYS)
@every_release("own_etcd")
@pytest.mark.timeout_s(15)
async def test_the_deletion_of_either_key_is_told_on_one_stream(own_etcd: EmbeddedEtcd, key: str) -> None:
    async with Etcd([own_etcd.endpoint]) as etcd:
        after = await keys_are_there(etcd)
        waiting = asyncio.create_task(until_event(etcd.connection, [*map(Watched, KEYS)], after=after))
        await until_watched(own_etcd, 2)
        await etcd.put(key, b"written, and not deleted")
        await etcd.put("/other", b"")
        await etcd.delete("/other")
        assert not waiting.done()
        await etcd.delete(key)
        await waiting
        await until_watched(own_etcd, 0)


@pytest.mark.timeout_s(15)
async def test_what_happened_before_is_no_news_and_what_happened_since_is(own_etcd: EmbeddedEtcd) -> None:
    async with Etcd([own_etcd.endpoint]) as etcd:
        await keys_are_there(etcd)
        await etcd.delete("/one")
        after = (await etcd.range("/one")).revision
        watched = [*map(Watched, KEYS)]
        waiting = asyncio.create_task(until_event(etcd.connection, watched, after=after))
        await until_watched(own_etcd, 2)
        await etcd.put("/three", b"")
        await asyncio.wait([waiting], timeout=0.2)
        assert not waiting.done(), "the deletion before it is told as news"
        await etcd.delete("/two")
        await waiting
        await until_event(etcd.connection, watched, after=after)  # and to who asks when it is over


@pytest.mark.timeout_s(15)
async def test_nothing_is_missed_that_happens_while_the_connection_is_broken(own_etcd: EmbeddedEtcd) -> None:
    async with (
        Cuttable(own_etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as etcd,
        Etcd([own_etcd.endpoint]) as other,
    ):
        after = await keys_are_there(other)
        waiting = asyncio.create_task(
            until_event(etcd.connection, [Watched("/t", prefix=True), Watched("/one")], after=after)
        )
        await until_watched(own_etcd, 2)
        await proxy.refuse()
        await other.delete("/two")
        assert not waiting.done()
        await proxy.accept()
        await waiting


@pytest.mark.timeout_s(15)
async def test_it_returns_where_it_can_no_longer_be_told_for_what_happened_is_compacted_away(
    own_etcd: EmbeddedEtcd,
) -> None:
    async with Etcd([own_etcd.endpoint]) as etcd:
        after = await keys_are_there(etcd)
        await etcd.delete("/one")
        last = await etcd.put("/other", b"")
        await asyncio.to_thread(etcdctl, own_etcd.endpoint, "compact", str(last))
        await until_event(etcd.connection, [*map(Watched, KEYS)], after=after)
