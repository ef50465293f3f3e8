"""The etcd client against real servers: transactions, pages, limits, leases, and how it is closed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from itertools import count
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.errors import SettingsError
from leaderjob.etcd import (
    Compacted,
    Delete,
    Etcd,
    EtcdError,
    Get,
    LeaseNotFound,
    Put,
    RequestRefused,
    Txn,
    TxnResult,
    ValueTooLarge,
    absent,
    follow,
    modified_at,
    none_created_before,
)
from leaderjob.etcd.lease import time_to_live
from leaderjob.etcd.stream import stream
from leaderjob.recipes import Election, Queue, Session, Topic
from tests.support.candidates import TIMING
from tests.support.cuttable import Cuttable
from tests.support.etcd import etcdctl, every_release


def nobody() -> str:
    """An endpoint where nobody listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@every_release("etcd")
async def test_a_compare_over_a_prefix_holds_only_if_it_holds_for_every_key(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        first = await client.put(f"/{namespace}/b", b"")
        second = await client.put(f"/{namespace}/a", b"")
        await client.put(f"/{namespace}0", b"")  # beside the prefix, not in it
        for revision, holds in ((first, True), (first + 1, False), (second, False)):
            result = await client.txn([none_created_before(f"/{namespace}/", revision)])
            assert result.succeeded is holds, revision


@every_release("etcd")
async def test_nested_transactions_branch_on_their_own_and_commit_at_one_revision(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    fresh, taken, consumed = f"/{namespace}/fresh", f"/{namespace}/taken", f"/{namespace}/consumed"
    async with Etcd([etcd.endpoint]) as client:
        await client.put(taken, b"before")
        await client.put(consumed, b"")
        result = await client.txn(
            [absent(fresh)],
            [
                Txn((absent(taken),), (Put(taken, b"wrong"),), (Get(taken),)),
                Txn((absent(fresh),), (Put(fresh, b"right"),), ()),
                Delete(consumed),
            ],
        )
        assert result.succeeded
        poisoned, accepted, deleted = result.results
        assert isinstance(poisoned, TxnResult)
        assert not poisoned.succeeded
        found = poisoned.range(0).first
        assert found is not None
        assert found.value == b"before"
        assert isinstance(accepted, TxnResult)
        assert accepted.succeeded
        assert deleted == 1
        created = await client.get(fresh)
        assert created is not None
        assert created.mod_revision == result.revision


@every_release("etcd")
async def test_a_range_over_many_pages_is_of_one_revision_while_somebody_writes(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    keys = [f"/{namespace}/{number:04}" for number in range(2200)]
    first_and_last = (keys[0], keys[-1])

    async def write(client: Etcd) -> None:
        for number in count():
            await client.txn((), [Put(key, str(number).encode()) for key in first_and_last])

    async with Etcd([etcd.endpoint]) as client, Etcd([etcd.endpoint]) as other:
        for start in range(0, len(keys), 100):
            await client.txn((), [Put(key, b"0") for key in keys[start : start + 100]])
        writer = asyncio.ensure_future(write(other))
        try:
            for _ in range(10):
                found = await client.range(f"/{namespace}/")
                assert found.count == len(found.kvs) == len(keys)
                values = {kv.key: kv.value for kv in found.kvs if kv.key in first_and_last}
                assert len(set(values.values())) == 1, values
                assert max(kv.mod_revision for kv in found.kvs) <= found.revision
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        final = await other.get(keys[0])
        assert final is not None
        assert final.version > 10, "nobody wrote meanwhile: this showed nothing"


async def test_a_range_is_ordered_by_creation_and_not_by_name(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        for name in "bca":
            await client.put(f"/{namespace}/{name}", b"")
        await client.put(f"/{namespace}/b", b"again")
        found = await client.range(f"/{namespace}/")
        assert [kv.key[-1] for kv in found.kvs] == ["b", "c", "a"]


async def test_a_value_that_is_not_bytes_is_refused_before_anything_is_sent(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    key = f"/leaderjob/{namespace}/text"
    text: Any = "text"
    async with Etcd([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        writes: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: client.put(key, text),
            lambda: client.txn((), [Put(key, text)]),
            lambda: Topic(client, "t", namespace=namespace).publish(text),
            lambda: Queue(session, "q", namespace=namespace).put(text),
            lambda: Election(client, "e", namespace=namespace).campaign(session, text),
        )
        for write in writes:
            with pytest.raises(SettingsError, match=r"of type str, and etcd keeps bytes.*\.encode\(\)"):
                await write()
        assert not (await client.range(f"/leaderjob/{namespace}/")).kvs
        session.check()


class CompactedInBetween(Etcd):
    """The store is compacted after each of the next ``times`` pages."""

    times = 0

    async def _read(self, request: Any) -> Any:
        response = await super()._read(request)
        if self.times:
            self.times -= 1
            newest = await self.put("/other", b"")
            await asyncio.to_thread(etcdctl, self.connection.endpoint, "compact", str(newest))
        return response


async def test_a_range_that_is_compacted_between_its_pages_begins_anew_but_not_for_ever(
    own_etcd: EmbeddedEtcd,
) -> None:
    async with CompactedInBetween([own_etcd.endpoint]) as client:
        keys = [f"/many/{number:04}" for number in range(1100)]
        for first in range(0, len(keys), 100):
            await client.txn((), [Put(key, b"") for key in keys[first : first + 100]])
        client.times = 2
        found = await client.range("/many/")
        assert (client.times, sorted(kv.key for kv in found.kvs)) == (0, keys)
        client.times = 10
        with pytest.raises(Compacted):
            await client.range("/many/")
        assert client.times == 5


async def test_a_range_at_a_compacted_revision_says_so(own_etcd: EmbeddedEtcd) -> None:
    async with Etcd([own_etcd.endpoint]) as client:
        old = await client.put("/key", b"1")
        new = await client.put("/key", b"2")
        etcdctl(own_etcd.endpoint, "compact", str(new))
        with pytest.raises(Compacted):
            await client.range("/key", revision=old)


@every_release("etcd")
async def test_a_value_over_the_limit_is_refused_before_it_is_sent_and_one_at_the_limit_is_taken(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Cuttable(etcd.endpoint) as proxy, Etcd([proxy.endpoint]) as client:
        with pytest.raises(ValueTooLarge, match="not sent"):
            await client.put(f"/{namespace}", bytes(1_500_000))
        with pytest.raises(ValueTooLarge, match="not sent"):
            await client.txn((), [Put(f"/{namespace}", bytes(1_500_000))])
        with pytest.raises(ValueTooLarge, match="129"):
            await client.txn((), [Put(f"/{namespace}", b"")] * 129)
        assert proxy.connections == 0
        await client.put(f"/{namespace}", bytes(1_499_900))
        compares = [modified_at(f"/{namespace}/{number}", 0) for number in range(128)]
        puts = [Put(f"/{namespace}/{number}", b"") for number in range(128)]
        assert (await client.txn(compares, puts)).succeeded


async def test_a_closed_client_says_that_it_is_closed(etcd: EmbeddedEtcd) -> None:
    client = Etcd([etcd.endpoint])
    await client.get("/key")
    await client.close()
    await client.close()
    with pytest.raises(EtcdError, match="closed"):
        await client.get("/key")


@pytest.mark.timeout_s(10)
async def test_closing_the_client_ends_its_watches_and_its_calls(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Cuttable(etcd.endpoint) as proxy:
        client = Etcd([proxy.endpoint])
        revision = await client.put(f"/{namespace}", b"")
        batches = stream(client.connection, f"/{namespace}", start_revision=revision)
        assert (await anext(batches)).revision == revision
        following = asyncio.ensure_future(anext(batches))
        proxy.cut()
        reading = asyncio.ensure_future(client.get(f"/{namespace}"))
        writing = asyncio.ensure_future(client.put(f"/{namespace}", b""))
        await proxy.holding_request()
        await client.close()
        for pending in (following, reading, writing):
            with pytest.raises(EtcdError):
                await pending


ODD = (
    "a key with spaces",
    "schlüssel/ключ/鍵",
    "new\nline\ttab",
    "nul\0in it",
    "\udcff\udc80",
    "'\"`$(x);--",
    "/",
)


@every_release("etcd")
async def test_a_key_may_be_any_bytes(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client:
        keys = [f"{namespace}{key}" for key in ODD]
        async with aclosing(follow(client, namespace)) as batches:
            await anext(batches)
            for key in keys:
                await client.put(key, key.encode("utf-8", "surrogateescape"))
                assert [event.key for event in (await anext(batches)).events] == [key]
        found = (await client.range(namespace)).kvs
        assert [kv.key for kv in found] == keys
        for key in keys:
            assert await client.delete(key) == 1


@every_release("own_etcd")
async def test_every_key_begins_with_nothing(own_etcd: EmbeddedEtcd) -> None:
    async with Etcd([own_etcd.endpoint]) as client:
        async with aclosing(follow(client, "")) as batches:
            await anext(batches)
            for key in ("\1", "\udcff"):
                await client.put(key, b"")
                assert [event.key for event in (await anext(batches)).events] == [key]
        assert (await client.range("")).count == 2
        assert await client.newest("") == (2, 3, 3)
        assert await client.delete("", prefix=True) == 2
        with pytest.raises(RequestRefused, match="key is not provided"):
            await client.put("", b"")


async def test_proxy_variables_of_the_environment_are_ignored(
    etcd: EmbeddedEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{nobody()}")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)

    async with Etcd([etcd.endpoint]) as client:
        await client.get("/key")


@every_release("etcd")
async def test_a_grant_tells_the_ttl_that_was_granted_which_is_at_least_the_servers_minimum(
    etcd: EmbeddedEtcd,
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        lease_id, ttl_s = await client.grant(1)
        assert ttl_s == 2
        assert await client.keep_alive(lease_id, timeout_s=1.0) == 2
        await client.revoke(lease_id)


@every_release("etcd")
async def test_a_lease_tells_what_it_has_left_and_when_it_is_gone(etcd: EmbeddedEtcd) -> None:
    async with Etcd([etcd.endpoint]) as client:
        lease_id, _ = await client.grant(60)
        assert await time_to_live(client.connection, lease_id) in (58, 59, 60)
        await client.revoke(lease_id)
        assert await time_to_live(client.connection, lease_id) is None


@every_release("etcd")
async def test_a_revoked_lease_is_gone_with_its_keys_and_revoking_it_again_is_no_error(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        lease_id, _ = await client.grant(30)
        await client.put(f"/{namespace}", b"", lease=lease_id)
        await client.revoke(lease_id)
        await client.revoke(lease_id)
        assert await client.get(f"/{namespace}") is None
        with pytest.raises(LeaseNotFound):
            await client.keep_alive(lease_id, timeout_s=1.0)
        with pytest.raises(RequestRefused, match="lease not found"):
            await client.put(f"/{namespace}", b"", lease=lease_id)
