"""Endpoints that are not etcd, or nothing at all: each is told by what it is, and writes are not left open."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.etcd import Etcd, EtcdUnavailable, follow
from tests.support.etcd import each_release, every_release

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def speaks_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n")
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


async def says_its_name(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-example\r\n")
    await reader.read(1)


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    served: list[asyncio.Task[None]] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(serve_one(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1")
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for task in served:
        task.cancel()
    await asyncio.gather(*served, return_exceptions=True)


@pytest.mark.parametrize(
    ("serve", "told"),
    [
        (speaks_http, "it answers, but not as etcd does: is this the port for clients"),
        (says_its_name, "it answers, but not as etcd does: is this the port for clients"),
        (says_nothing, "it takes the connection and says nothing: it hangs, or is not etcd"),
    ],
)
@pytest.mark.timeout_s(15)
async def test_what_listens_there_but_is_not_etcd_is_told(serve: Serve, told: str) -> None:
    async with listening(serve) as endpoint, Etcd([endpoint]) as client:
        for ask in (client.get("/key"), client.put("/key", b""), client.grant(10)):
            with pytest.raises(EtcdUnavailable, match=told) as caught:
                await ask
            assert endpoint in str(caught.value)


async def test_a_name_that_resolves_to_nothing_is_told_and_nothing_was_sent() -> None:
    async with Etcd(["no-such-host.invalid:2379"]) as client:
        for ask in (client.get("/key"), client.put("/key", b"")):
            with pytest.raises(EtcdUnavailable, match="no address is known under its name"):
                await ask


@every_release("etcd")
async def test_where_one_endpoint_is_wrong_the_others_are_used(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        listening(speaks_http) as not_etcd,
        Etcd(
            ["no-such-host.invalid:2379", not_etcd, etcd.endpoint.replace("127.0.0.1", "localhost")]
        ) as client,
    ):
        await client.put(f"/{namespace}/key", b"1")
        found = await client.get(f"/{namespace}/key")
        assert found is not None
        assert found.value == b"1"


@pytest.mark.parametrize("gateway", each_release())
async def test_through_etcds_own_gateway_everything_works_and_outlives_a_restart_of_etcd(
    own_etcd: EmbeddedEtcd, tmp_path: Path, gateway: Path
) -> None:
    """A gateway is a proxy for TCP: one address on each machine, and the members behind it."""
    port = free_ports(1)[0]
    command = [
        gateway, "gateway", "start", f"--endpoints={own_etcd.endpoint}", f"--listen-addr=127.0.0.1:{port}",
        "--retry-delay=200ms",
    ]  # fmt: skip
    log = (tmp_path / "gateway.log").open("wb")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    try:
        async with Etcd([f"127.0.0.1:{port}"]) as client:
            await answered(client)
            lease_id, _ = await client.grant(60)
            async with aclosing(follow(client, "/g/")) as batches:
                await anext(batches)
                await client.put("/g/key", b"1", lease=lease_id)
                assert (await anext(batches)).events[0].now is not None
                own_etcd.kill()
                await own_etcd.start()
                await answered(client)
                assert await client.keep_alive(lease_id, timeout_s=5.0) == 60
                await client.delete("/g/key")
                assert (await anext(batches)).events[0].now is None
    finally:
        process.kill()
        process.wait()
        log.close()


async def answered(client: Etcd) -> None:
    """Return once a read is answered: the gateway has begun, or found the member again."""
    async with asyncio.timeout(10.0):
        while True:
            try:
                await client.get("/g/key")
            except EtcdUnavailable:
                await asyncio.sleep(0.05)
            else:
                return
