"""When etcd does not answer, or another one does: failover, and what an unanswered write means."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.etcd import (
    AmbiguousWrite,
    Etcd,
    EtcdUnavailable,
    EventKind,
    HistoryWentBack,
    OtherCluster,
    follow,
)
from leaderjob.etcd.stream import stream
from tests.support.backups import Backup
from tests.support.cuttable import Cuttable


@asynccontextmanager
async def through(proxy: Cuttable, *, call_timeout_s: float = 2.0) -> AsyncIterator[Etcd]:
    """A client whose connection through the proxy stands."""
    async with Etcd([proxy.endpoint], call_timeout_s=call_timeout_s) as client:
        await client.get("/connect")
        yield client


async def until_written(client: Etcd, key: str) -> None:
    """Return when the key is there; it must never have been there before."""
    async with aclosing(stream(client.connection, key, start_revision=1)) as batches:
        await anext(batches)


def nobody() -> str:
    """An endpoint where nobody listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


async def test_a_read_fails_over_to_the_second_endpoint_when_the_first_dies(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Cuttable(etcd.endpoint) as first, Etcd([first.endpoint, etcd.endpoint]) as client:
        await client.put(f"/{namespace}", b"here")
        assert first.connections == 1
        await first.refuse()
        found = await client.get(f"/{namespace}")
        assert found is not None
        assert found.value == b"here"


async def test_a_read_fails_over_when_the_first_endpoint_answers_nothing(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as first,
        Etcd([first.endpoint, etcd.endpoint], call_timeout_s=0.3) as client,
    ):
        await client.put(f"/{namespace}", b"here")
        first.cut()
        assert await client.get(f"/{namespace}") is not None


async def test_a_write_that_surely_was_not_sent_is_sent_to_the_next_endpoint(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([nobody(), etcd.endpoint]) as client:
        await client.put(f"/{namespace}", b"once")
        found = await client.get(f"/{namespace}")
        assert found is not None
        assert (found.value, found.version) == (b"once", 1)


@pytest.mark.parametrize("how", ["times out", "is reset"])
async def test_a_write_whose_answer_is_lost_is_ambiguous_and_may_be_done(
    etcd: EmbeddedEtcd, namespace: str, how: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        through(proxy, call_timeout_s=0.5) as client,
        Etcd([etcd.endpoint]) as outside,
    ):
        proxy.cut(requests=False)
        write = asyncio.ensure_future(client.put(f"/{namespace}", b"done"))
        await until_written(outside, f"/{namespace}")
        if how == "is reset":
            proxy.reset()
        with pytest.raises(AmbiguousWrite, match="may or may not be done"):
            await write
        found = await outside.get(f"/{namespace}")
        assert found is not None
        assert (found.value, found.version) == (b"done", 1)


async def test_a_write_that_is_lost_on_its_way_is_ambiguous_too_and_not_done(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        through(proxy, call_timeout_s=0.3) as client,
        Etcd([etcd.endpoint]) as outside,
    ):
        proxy.cut(answers=False)
        with pytest.raises(AmbiguousWrite):
            await client.put(f"/{namespace}", b"lost")
        proxy.reset()
        assert await outside.get(f"/{namespace}") is None


@asynccontextmanager
async def aborting(code: grpc.StatusCode) -> AsyncIterator[str]:
    """An endpoint where each read, put and grant ends with ``code``."""

    async def abort(_: object, context: grpc.aio.ServicerContext) -> object:
        return await context.abort(code, "Received RST_STREAM with error code 2")

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    unary = grpc.unary_unary_rpc_method_handler(abort)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Put": unary, "Range": unary}),
            grpc.method_handlers_generic_handler("etcdserverpb.Lease", {"LeaseGrant": unary}),
        )
    )
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_a_write_that_ends_in_an_internal_error_is_ambiguous_and_a_read_is_not() -> None:
    """A stream that a proxy breaks in the middle can end so; that nothing was written is not known."""

    async with aborting(grpc.StatusCode.INTERNAL) as endpoint, Etcd([endpoint]) as client:
        with pytest.raises(AmbiguousWrite):
            await client.put("/key", b"")
        with pytest.raises(EtcdUnavailable, match="does not answer as etcd does"):
            await client.get("/key")


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED])
async def test_where_an_endpoint_does_not_answer_as_etcd_does_the_next_one_is_asked(
    etcd: EmbeddedEtcd, namespace: str, code: grpc.StatusCode
) -> None:
    async with aborting(code) as endpoint:
        async with Etcd([endpoint, etcd.endpoint]) as client:
            assert await client.get(f"/{namespace}") is None
        async with Etcd([endpoint, etcd.endpoint]) as client:
            lease_id, _ = await client.grant(30)
            await client.revoke(lease_id)
        async with Etcd([endpoint, etcd.endpoint]) as client:
            if code is grpc.StatusCode.INTERNAL:
                with pytest.raises(AmbiguousWrite):
                    await client.put(f"/{namespace}", b"")
            else:
                await client.put(f"/{namespace}", b"")


Use = Callable[[Etcd, int], Awaitable[object]]


async def _get(client: Etcd, _: int) -> None:
    await client.get("/key")


async def _keep_alive(client: Etcd, lease_id: int) -> None:
    await client.keep_alive(lease_id, timeout_s=1.0)


async def _watch(client: Etcd, _: int) -> None:
    async for batch in stream(client.connection, "/key", start_revision=1):
        raise AssertionError(f"the other cluster's history was handed out: {batch}")


async def test_another_cluster_behind_the_second_endpoint_is_refused_in_whatever_is_asked_of_it(
    etcd: EmbeddedEtcd, own_etcd: EmbeddedEtcd
) -> None:
    async def refused(use: Use) -> None:
        async with Cuttable(etcd.endpoint) as proxy, Etcd([proxy.endpoint, own_etcd.endpoint]) as client:
            lease_id, _ = await client.grant(30)
            await proxy.refuse()
            with pytest.raises(EtcdUnavailable):
                await client.keep_alive(lease_id, timeout_s=1.0)  # from now on, the second one
            with pytest.raises(OtherCluster, match="correct the list of endpoints"):
                await use(client, lease_id)
            await proxy.accept()
            await client.revoke(lease_id)

    async with Etcd([own_etcd.endpoint]) as stranger:
        await stranger.put("/key", b"of another world")
    for use in (_get, _keep_alive, _watch):
        await refused(use)


async def test_an_unreachable_etcd_is_an_error_that_names_the_endpoints_and_says_what_to_do() -> None:
    one, other = nobody(), nobody()

    async with Etcd([one, other]) as client:
        with pytest.raises(EtcdUnavailable) as caught:
            await client.put("/key", b"")
    message = str(caught.value)
    assert one in message
    assert other in message
    assert "connection refused" in message
    assert "Check that it runs" in message
    assert caught.value.exit_code == 3


async def test_a_keepalive_that_is_not_answered_moves_on_to_the_next_endpoint(etcd: EmbeddedEtcd) -> None:
    async with Cuttable(etcd.endpoint) as first, Etcd([first.endpoint, etcd.endpoint]) as client:
        lease_id, _ = await client.grant(30)
        first.cut()
        with pytest.raises(EtcdUnavailable, match="no answer to a keepalive"):
            await client.keep_alive(lease_id, timeout_s=0.2)
        assert await client.keep_alive(lease_id, timeout_s=1.0) == 30
        await client.revoke(lease_id)


async def test_a_store_that_was_restored_from_an_older_backup_is_sent_nothing_more(
    own_etcd: EmbeddedEtcd, tmp_path: Path
) -> None:
    async with Etcd([own_etcd.endpoint]) as client:
        await client.put("/key", b"1")
        backup = Backup(own_etcd, tmp_path / "backup")
        await backup.take()
        newest = await client.put("/key", b"2")
        await backup.restore()
        with pytest.raises(HistoryWentBack) as caught:
            await client.get("/key")
        assert (caught.value.found, caught.value.known) == (newest - 1, newest)
        with pytest.raises(HistoryWentBack):
            await client.put("/key", b"3")
        client.connection.accept_store()
        found = await client.get("/key")
        assert found is not None
        assert (found.value, found.mod_revision) == (b"1", newest - 1)


@pytest.mark.parametrize("passed", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_a_prefix_is_followed_on_in_a_store_that_lost_the_revision_it_waits_for(
    own_etcd: EmbeddedEtcd, tmp_path: Path, passed: bool
) -> None:
    """The watch that was under way asks for a revision which is to come: it hears nothing until then. Where the
    restored store has ``passed`` that one already, it is not told either of what came before."""

    async with Etcd([own_etcd.endpoint]) as client, Etcd([own_etcd.endpoint]) as other:
        await client.put("/prefix/kept", b"")
        backup = Backup(own_etcd, tmp_path / "backup")
        await backup.take()
        for number in range(100):
            await client.put("/prefix/lost", str(number).encode())
        async with aclosing(follow(client, "/prefix/", look_again_s=0.2)) as batches:
            assert {event.key for event in (await anext(batches)).events} == {
                "/prefix/kept",
                "/prefix/lost",
            }
            await backup.restore()
            await other.put("/prefix/new", b"")
            for _ in range(150 if passed else 0):
                await other.put("/elsewhere", b"")
            client.connection.accept_store()
            events = (await anext(batches)).events
        assert [(event.kind, event.key) for event in events] == [
            (EventKind.DELETED, "/prefix/lost"),
            (EventKind.CREATED, "/prefix/new"),
        ]
