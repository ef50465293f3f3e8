"""``https://`` is TLS, also where no certificates are given."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from leaderjob.client import Client
from leaderjob.etcd import Etcd, EtcdUnavailable, User
from tests.support.authority import Authority
from tests.support.commands import leaderjob
from tests.support.secure_etcd import ROOT_PASSWORD, SecureEtcd, started

ROOT = User("root", lambda: ROOT_PASSWORD)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[SecureEtcd]:
    directory = tmp_path_factory.mktemp("etcd")
    for running in started(SecureEtcd(directory, authority.issue("server"), demands_certificate=False)):
        running.enable_users()
        yield running


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """This system trusts the authority that signed the server's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))


@asynccontextmanager
async def relay(endpoint: str, path: Path | None = None) -> AsyncIterator[tuple[str, bytearray]]:
    """Another endpoint in front of ``endpoint``, at a Unix socket or a port of its own, and what is sent to it."""
    sent = bytearray()
    tasks: set[asyncio.Task[Any] | None] = set()
    host, _, port = endpoint.rpartition(":")

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seen: bytearray) -> None:
        with suppress(ConnectionError):
            while piece := await source.read(1 << 16):
                seen += piece
                sink.write(piece)
                await sink.drain()
        sink.close()

    async def connected(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        server, requests = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(client, requests, sent), copy(server, answers, bytearray()))

    if path is not None:
        listener = await asyncio.start_unix_server(connected, path)
        address = f"unix://{path}"
    else:
        listener = await asyncio.start_server(connected, "127.0.0.1", 0)
        address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield address, sent
    finally:
        listener.close()
        await asyncio.gather(*(task for task in tasks if task is not None))


@pytest.mark.usefixtures("trusted")
async def test_https_alone_encrypts_with_the_authorities_of_the_system(server: SecureEtcd) -> None:
    async with (
        relay(server.secure_endpoint) as (address, sent),
        Etcd([f"https://{address}"], user=ROOT) as client,
    ):
        await client.put("/key", b"of-value")
        found = await client.get("/key")
        assert found is not None
        assert found.value == b"of-value"
    assert sent.startswith(b"\x16\x03")  # a TLS handshake
    assert b"of-value" not in sent
    assert ROOT_PASSWORD.encode() not in sent


async def test_server_that_the_system_does_not_trust_gets_no_password(server: SecureEtcd) -> None:
    said = r"not signed by an authority .* that this system trusts"
    async with (
        relay(server.secure_endpoint) as (address, sent),
        Etcd([f"https://{address}"], user=ROOT) as client,
    ):
        with pytest.raises(EtcdUnavailable, match=said):
            await client.get("/key")
    assert ROOT_PASSWORD.encode() not in sent


@pytest.mark.usefixtures("trusted")
async def test_single_members_are_asked_over_tls_too(server: SecureEtcd, namespace: str) -> None:
    async with (
        relay(server.secure_endpoint) as (address, sent),
        Client([f"https://{address}"], namespace, user=ROOT) as client,
    ):
        found = await client.status()
    assert [each["endpoint"] for each in found["etcd"]["endpoints"]] == [address]
    assert ROOT_PASSWORD.encode() not in sent


async def test_unix_socket_is_an_endpoint(server: SecureEtcd, namespace: str, tmp_path: Path) -> None:
    async with (
        relay(server.endpoint, tmp_path / "etcd.sock") as (address, sent),
        Client([address], namespace, user=ROOT) as client,
    ):
        found = await client.status()
    assert [each["endpoint"] for each in found["etcd"]["endpoints"]] == [address]
    assert ROOT_PASSWORD.encode() in sent  # which stays on this machine


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_commands_take_https_alone(
    command: str, server: SecureEtcd, authority: Authority, namespace: str, tmp_path: Path
) -> None:
    done = leaderjob(
        command,
        f"--etcd=https://{server.secure_endpoint}",
        f"--namespace={namespace}",
        cwd=tmp_path,
        SSL_CERT_FILE=str(authority.ca),
        LEADERJOB_ETCD_USERNAME="root",
        LEADERJOB_ETCD_PASSWORD=ROOT_PASSWORD,
        LEADERJOB_REPLICA_STATE_DIR=str(tmp_path / "state"),
    )
    answered = {
        "status": "1 of 1 endpoints answer",
        "doctor": f"ok  clock against {server.secure_endpoint}",
    }
    assert answered[command] in done.stdout, done.stderr
