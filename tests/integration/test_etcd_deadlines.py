"""A deadline for all tries of a call: an endpoint that says nothing leaves time for the others."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import AmbiguousWrite, Delete, Etcd, EtcdUnavailable, Get, Put, created_at
from tests.support.cuttable import Cuttable

WITHIN_S = 1.0
SLACK_S = 0.5


@asynccontextmanager
async def two_ways(etcd: EmbeddedEtcd) -> AsyncIterator[tuple[Etcd, Cuttable, Cuttable]]:
    """A client with two endpoints, which uses the first, and whose tries may take long."""
    async with (
        Cuttable(etcd.endpoint) as first,
        Cuttable(etcd.endpoint) as second,
        Etcd([first.endpoint, second.endpoint], call_timeout_s=10.0) as client,
    ):
        await client.get("/connect")
        assert (first.connections, second.connections) == (1, 0)
        yield client, first, second
        for way in (first, second):
            way.reset()
            way.heal()


async def _delete_what_was_created(client: Etcd, key: str, created: int, lease_id: int) -> None:
    compares = [created_at(key, created)]
    await client.txn(compares, [Delete(key)], repeatable=True, within_s=WITHIN_S)


async def _revoke(client: Etcd, key: str, created: int, lease_id: int) -> None:
    await client.revoke(lease_id, within_s=WITHIN_S)


@pytest.mark.parametrize("end", [_delete_what_was_created, _revoke])
async def test_what_may_be_done_twice_is_done_in_time_though_the_first_endpoint_says_nothing(
    etcd: EmbeddedEtcd, namespace: str, end: Callable[[Etcd, str, int, int], Awaitable[None]]
) -> None:
    async with two_ways(etcd) as (client, first, _), Etcd([etcd.endpoint]) as outside:
        lease_id, _ = await outside.grant(60)
        created = await outside.put(f"/{namespace}", b"", lease=lease_id)
        first.cut()
        async with asyncio.timeout(WITHIN_S):
            await end(client, f"/{namespace}", created, lease_id)
        assert await outside.get(f"/{namespace}") is None


async def _read(client: Etcd) -> None:
    await client.txn((), [Get("/key")], repeatable=True, within_s=WITHIN_S)


async def _write_again(client: Etcd) -> None:
    await client.txn((), [Put("/key", b"")], repeatable=True, within_s=WITHIN_S)


async def _write_once(client: Etcd) -> None:
    await client.txn((), [Put("/key", b"")], within_s=WITHIN_S)


async def _delete(client: Etcd) -> None:
    await client.delete("/key", within_s=WITHIN_S)


@pytest.mark.parametrize(
    ("use", "error", "took_s"),
    [
        (_read, EtcdUnavailable, WITHIN_S),
        (_write_again, AmbiguousWrite, WITHIN_S),
        (_write_once, AmbiguousWrite, WITHIN_S / 2),
        (_delete, AmbiguousWrite, WITHIN_S / 2),
    ],
)
async def test_when_nobody_answers_it_is_over_in_time(
    etcd: EmbeddedEtcd, use: Callable[[Etcd], Awaitable[None]], error: type[Exception], took_s: float
) -> None:
    async with two_ways(etcd) as (client, first, second):
        first.cut()
        second.cut()
        began_at = time.monotonic()
        with pytest.raises(error):
            await use(client)
        assert took_s - 0.1 <= time.monotonic() - began_at < took_s + SLACK_S


async def test_a_write_that_may_be_done_twice_is_ambiguous_once_one_try_got_no_answer(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    """Though the endpoint of the other one surely did nothing."""
    key = f"/{namespace}"

    async with two_ways(etcd) as (client, first, second), Etcd([etcd.endpoint]) as outside:
        await second.refuse()
        first.cut(requests=False)
        with pytest.raises(AmbiguousWrite, match=first.endpoint):
            await client.txn((), [Put(key, b"done")], repeatable=True, within_s=WITHIN_S)
        found = await outside.get(key)
        assert found is not None
        assert found.value == b"done"
        await second.accept()
