"""Published files over TLS: both sides show certificates, which may be exchanged at any time."""

import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from leaderjob.errors import SettingsError
from leaderjob.results.errors import FetchFailed
from leaderjob.results.httpd import Request, plain
from leaderjob.results.server import BlobServer
from leaderjob.results.store import Store
from leaderjob.tls import CertificateFiles, Fresh
from tests.support.authority import Authority
from tests.support.transfers import FILES, Bench, bring


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def ask(address: str, path: str, context: ssl.SSLContext) -> tuple[int, bytes]:
    connection = HTTPSConnection(address, timeout=5, context=context)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_replicas_with_certificates_of_one_authority_share_files(
    bench: Bench, leader: Store, follower: Store, authority: Authority
) -> None:
    staged = bench.add(leader, FILES)
    address = bench.serve(leader, certificates=authority.issue("leader"))
    bring(follower, staged, address, tls=authority.issue("follower").client_context())
    assert follower.has(staged.digest)


def test_files_are_not_for_those_without_a_certificate(
    bench: Bench, leader: Store, follower: Store, authority: Authority
) -> None:
    staged = bench.add(leader, FILES)
    address = bench.serve(leader, certificates=authority.issue("leader"))
    anonymous = CertificateFiles(ca=authority.ca).client_context()
    with pytest.raises(FetchFailed, match="403"):
        bring(follower, staged, address, tls=anonymous)
    status, body = ask(address, f"/objects/{staged.digest}", anonymous)
    assert (status, body) == (403, b"published files are for those who show a certificate\n")


def test_a_certificate_of_another_authority_is_refused_by_both_sides(
    bench: Bench, leader: Store, follower: Store, authority: Authority, tmp_path: Path
) -> None:
    staged = bench.add(leader, FILES)
    address = bench.serve(leader, certificates=authority.issue("leader"))
    stranger = Authority(tmp_path / "stranger").issue("stranger")
    with pytest.raises(FetchFailed, match=r"(?i)certificate verify failed"):
        bring(follower, staged, address, tls=stranger.client_context())
    disguised = CertificateFiles(authority.ca, stranger.cert, stranger.key)
    with pytest.raises(FetchFailed):  # what is read of the refusal differs: the connection is reset as well
        bring(follower, staged, address, tls=disguised.client_context())


def test_whoever_does_not_encrypt_gets_nothing(
    bench: Bench, leader: Store, follower: Store, authority: Authority
) -> None:
    staged = bench.add(leader, FILES)
    address = bench.serve(leader, certificates=authority.issue("leader"))
    with pytest.raises(FetchFailed):
        bring(follower, staged, address)


def test_a_route_may_answer_those_without_a_certificate(
    bench: Bench, leader: Store, authority: Authority
) -> None:
    server = BlobServer(leader, "127.0.0.1", 0, certificates=authority.issue("leader"))

    def answer(request: Request) -> object:
        return plain(HTTPStatus.OK, f"known: {request.peer_known}")

    server.add_route("/open", answer)  # type: ignore[arg-type]
    bench.to_close.append(server.close)
    _, port = server.start()
    address = f"127.0.0.1:{port}"
    anonymous = CertificateFiles(ca=authority.ca).client_context()
    assert ask(address, "/open", anonymous) == (200, b"known: False\n")
    assert ask(address, "/open", authority.issue("known").client_context()) == (200, b"known: True\n")


def test_a_peer_that_never_finishes_its_handshake_holds_nobody_up(
    bench: Bench, leader: Store, authority: Authority
) -> None:
    staged = bench.add(leader, FILES)
    server = BlobServer(leader, "127.0.0.1", 0, certificates=authority.issue("leader"), idle_timeout_s=20.0)
    _, port = server.start()
    with socket.create_connection(("127.0.0.1", port)):
        context = authority.issue("client").client_context()
        assert ask(f"127.0.0.1:{port}", f"/objects/{staged.digest}", context)[0] == 200
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 15.0, "it waited for the connection to be idle for too long"
    assert not [thread for thread in threading.enumerate() if thread.name == "leaderjob-http"]


def test_renewed_certificates_are_shown_to_the_next_who_connects(
    bench: Bench, leader: Store, authority: Authority
) -> None:
    address = bench.serve(leader, certificates=authority.issue("leader"))
    host, port = address.split(":")

    def serial() -> object:
        context = CertificateFiles(ca=authority.ca).client_context()
        with (
            socket.create_connection((host, int(port)), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=host) as encrypted,
        ):
            shown = encrypted.getpeercert()
            assert shown is not None
            return shown["serialNumber"]

    before = serial()
    authority.issue("leader")
    assert serial() != before


def test_files_that_do_not_fit_together_leave_the_former_ones_in_use(authority: Authority) -> None:
    files = authority.issue("one")
    fresh = Fresh(files, CertificateFiles.read)
    first = fresh.get()
    other = authority.issue("other")
    assert files.cert is not None
    assert files.key is not None
    assert other.cert is not None
    assert other.key is not None
    files.cert.write_bytes(other.cert.read_bytes())
    assert fresh.get() is first
    files.key.write_bytes(other.key.read_bytes())
    assert fresh.get() == CertificateFiles(files.ca, other.cert, other.key).read()


def test_what_cannot_be_used_is_named(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue("one")
    other = authority.issue("other")
    nothing = tmp_path / "nothing"
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    for wrong, message in (
        (CertificateFiles(files.ca, files.cert, other.key), f"{other.key} does not belong to"),
        (CertificateFiles(files.ca, nothing, files.key), f"{nothing} cannot be read: No such file"),
        (CertificateFiles(nonsense, files.cert, files.key), f"{nonsense} has no certificate of an authority"),
        (CertificateFiles(files.ca, nonsense, files.key), "are not a certificate and its key"),
        (CertificateFiles(files.ca, files.cert), "give both or neither"),
    ):
        with pytest.raises(SettingsError, match=message):
            wrong.read()


def test_an_encrypted_key_is_refused_and_not_asked_for(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    files = authority.issue("one")
    assert files.key is not None
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(SettingsError, match="is encrypted"):
        files.read()


def test_a_certificate_that_the_other_replicas_accept_is_good_until_it_runs_out(authority: Authority) -> None:
    until = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    files = authority.issue("soon", good_until=until)
    assert files.check_among_peers("127.0.0.1") == until
    assert files.check_among_peers("localhost") == until


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("name", "certificate is not valid for '127.0.0.1'. Give one for that name"),
        ("expired", "certificate has expired"),
        ("authority", "unable to get local issuer certificate"),
    ],
)
def test_a_certificate_that_the_other_replicas_would_refuse_is_named(
    authority: Authority, tmp_path: Path, what: str, why: str
) -> None:
    files = {
        "name": lambda: authority.issue("r", "replica-1.example"),
        "expired": lambda: authority.issue("r", good_until=datetime(2020, 1, 1, tzinfo=UTC)),
        "authority": lambda: authority.issue("r", by=Authority(tmp_path / "other")),
    }[what]()
    with pytest.raises(SettingsError) as caught:
        files.check_among_peers("127.0.0.1")
    assert why in str(caught.value)
    assert str(files.cert) in str(caught.value)
