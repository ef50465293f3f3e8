"""An etcd that demands certificates, or users: what is given is used, and what is missing is named."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from leaderjob.errors import SettingsError
from leaderjob.etcd import (
    Etcd,
    EtcdUnavailable,
    follow,
)
from leaderjob.tls import CertificateFiles
from tests.support.authority import Authority
from tests.support.secure_etcd import SecureEtcd, started
from tests.support.streams import run_with_streams


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def encrypted(tmp_path: Path, authority: Authority) -> Iterator[SecureEtcd]:
    """Demands a certificate of ``authority``."""
    yield from started(SecureEtcd(tmp_path / "etcd", authority.issue("server")))


async def test_both_sides_show_their_certificates(encrypted: SecureEtcd, authority: Authority) -> None:
    async with Etcd([encrypted.secure_endpoint], certificates=authority.issue("client")) as client:
        await client.put("/key", b"secret")
        found = await client.get("/key")
        assert found is not None
        assert found.value == b"secret"
        lease_id, _ = await client.grant(10)
        assert await client.keep_alive(lease_id, timeout_s=2.0) == 10


def refused(endpoint: str, certificates: CertificateFiles | None) -> str:
    """What a client is told that cannot connect."""

    async def main() -> str:
        async with Etcd([endpoint], certificates=certificates) as client:
            with pytest.raises(EtcdUnavailable) as caught:
                await client.get("/key")
        assert caught.value.exit_code == 3
        return str(caught.value)

    return run_with_streams(main())


def test_a_server_that_another_authority_signed_is_refused(encrypted: SecureEtcd, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    said = refused(encrypted.secure_endpoint, other.issue("client"))
    assert "is not signed by an authority in etcd.ca" in said


def test_a_server_with_the_name_of_another_is_refused(tmp_path: Path, authority: Authority) -> None:
    elsewhere = authority.issue("server", "etcd.example.org")
    for server in started(SecureEtcd(tmp_path / "etcd", elsewhere)):
        said = refused(server.secure_endpoint, authority.issue("client"))
        assert "its certificate is for another name" in said


def test_a_client_without_a_certificate_is_told_so(encrypted: SecureEtcd, authority: Authority) -> None:
    said = refused(encrypted.secure_endpoint, CertificateFiles(ca=authority.ca))
    assert "etcd.cert" in said


def test_whoever_does_not_encrypt_is_told_so(encrypted: SecureEtcd) -> None:
    assert "https://" in refused(encrypted.secure_endpoint, None)


def test_whoever_encrypts_where_nobody_does_is_told_so(encrypted: SecureEtcd, authority: Authority) -> None:
    assert "does not speak TLS" in refused(encrypted.endpoint, authority.issue("client"))


async def test_renewed_certificates_are_used_without_a_restart(encrypted: SecureEtcd, tmp_path: Path) -> None:
    """The server gets others, of another authority, and its clients are given theirs a moment later."""
    files = Authority(tmp_path / "authority").issue("client")
    renewed = tmp_path / "renewed"

    async with Etcd([encrypted.secure_endpoint], certificates=files) as client:
        with pytest.raises(EtcdUnavailable):
            await client.get("/key")
        new = Authority(renewed)
        server, ours = new.issue("server"), new.issue("client")
        encrypted.kill()
        move(server, tmp_path / "authority", "server")
        move(ours, tmp_path / "authority", "client")
        await encrypted.start()
        await eventually(client)


@pytest.mark.timeout_s(15)
async def test_a_connection_with_former_certificates_is_closed_with_the_last_call_on_it(
    encrypted: SecureEtcd, authority: Authority
) -> None:
    async def until_connected(count: int) -> None:
        while connections_to(encrypted.secure_endpoint) != count:
            await asyncio.sleep(0.01)

    files = authority.issue("client")
    async with Etcd([encrypted.secure_endpoint], certificates=files) as client:
        async with aclosing(follow(client, "/")) as batches:
            await anext(batches)
            await client.put("/key", b"1")
            await anext(batches)
            await until_connected(1)
            for _ in range(2):
                authority.issue("client")
                await client.connection.channels.renew()
                await client.put("/key", b"2")
                await anext(batches)
                # Of those between, there is none; the first one still has the watch.
                await until_connected(2)
        await until_connected(1)
        await client.get("/key")


def connections_to(endpoint: str) -> int:
    """How many this process has open to this port of this machine, as the kernel has it."""
    established, port = "01", f"{int(endpoint.rpartition(':')[2]):04X}"
    ours = {str(opened.readlink()) for opened in Path("/proc/self/fd").iterdir() if opened.is_symlink()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    return sum(
        row[2].endswith(f":{port}") and row[3] == established and f"socket:[{row[9]}]" in ours for row in rows
    )


def move(new: CertificateFiles, directory: Path, name: str) -> None:
    """Exchange the files, as a certificate manager does it."""
    assert new.ca is not None
    assert new.cert is not None
    assert new.key is not None
    (directory / "ca.pem").write_bytes(new.ca.read_bytes())
    new.cert.replace(directory / f"{name}.pem")
    new.key.replace(directory / f"{name}.key")


async def eventually(client: Etcd) -> None:
    async with asyncio.timeout(10.0):
        while True:
            try:
                await client.get("/key")
            except EtcdUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


def test_a_key_that_does_not_belong_to_its_certificate_is_named(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    with pytest.raises(SettingsError, match="does not belong to the certificate"):
        Etcd(["127.0.0.1:1"], certificates=CertificateFiles(one.ca, one.cert, other.key))
