"""What the blob server answers, and what it refuses."""

import http.client
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest

from leaderjob.results.digests import digest_bytes
from leaderjob.results.errors import (
    CannotListen,
)
from leaderjob.results.httpd import Reply, Request, plain
from leaderjob.results.server import BlobServer
from leaderjob.results.store import Store
from tests.support.needs import needs
from tests.support.transfers import BIG, FILES, Bench, bring


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


@pytest.fixture
def served(bench: Bench, leader: Store) -> tuple[str, str]:
    """The address of a server, and the path of an object ``0123456789``."""
    bench.add(leader, {"digits": b"0123456789"}, run="served")
    return bench.serve(leader), f"/objects/{digest_bytes(b'0123456789')}"


def test_an_object_is_served_whole_and_head_says_its_size(served: tuple[str, str]) -> None:
    address, path = served
    assert ask(address, path)[::2] == (200, b"0123456789")
    status, headers, body = ask(address, path, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "10", b"")
    assert headers["ETag"] == f'"{path.removeprefix("/objects/")}"'


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=3-5", 206, b"345"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=10-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=5-3", 200, b"0123456789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_ranges(served: tuple[str, str], asked: str, status: int, body: bytes) -> None:
    address, path = served
    found = ask(address, path, Range=asked)
    assert (found[0], found[2]) == (status, body)
    if status == 206:
        first = b"0123456789".index(body)
        assert found[1]["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/10"
    if status == 416:
        assert found[1]["Content-Range"] == "bytes */10"


def test_a_range_for_another_content_is_ignored(served: tuple[str, str]) -> None:
    address, path = served
    assert ask(address, path, Range="bytes=0-1", If_Range='"other"')[0] == 200
    assert ask(address, path, Range="bytes=0-1", If_Range=f'"{path.removeprefix("/objects/")}"')[0] == 206


@pytest.mark.parametrize(
    "path",
    [
        "/objects/../../etc/passwd",
        "/objects/..%2f..%2fetc%2fpasswd",
        "/objects//etc/passwd",
        "/objects/",
        "/objects/blake3:" + "0" * 64,
        "/objects/blake3:" + "../" * 21 + "a",
        "/",
        "/lock",
        "*",
    ],
)
def test_nothing_but_digests_is_served(served: tuple[str, str], path: str) -> None:
    status, _, body = ask(served[0], path)
    assert status == 404
    assert b"root:" not in body


def test_other_methods_are_refused(served: tuple[str, str]) -> None:
    address, path = served
    assert ask(address, path, "DELETE")[0] == 501
    assert ask(address, path)[0] == 200


def test_one_connection_serves_many_requests_but_none_behind_a_body(served: tuple[str, str]) -> None:
    address, path = served
    connection = http.client.HTTPConnection(address, timeout=5)
    for _ in range(3):
        connection.request("GET", path)
        assert connection.getresponse().read() == b"0123456789"
    reused = connection.sock
    assert reused is not None
    connection.request("GET", path, body=b"GET /smuggled HTTP/1.1\r\n\r\n")
    response = connection.getresponse()
    assert response.headers["Connection"] == "close"
    assert response.read() == b"0123456789"
    connection.close()


def test_a_hundred_parallel_range_requests_get_their_own_bytes(bench: Bench, leader: Store) -> None:
    bench.add(leader, {"big": BIG})
    address = bench.serve(leader, max_transfers=100, max_transfers_per_peer=100)
    path = f"/objects/{digest_bytes(BIG)}"
    start = threading.Barrier(100)

    def one(number: int) -> bool:
        start.wait(10)
        first = number * 90_001
        status, _, body = ask(address, path, Range=f"bytes={first}-{first + 90_000}")
        return status == 206 and body == BIG[first : first + 90_001]

    with ThreadPoolExecutor(100) as pool:
        assert all(pool.map(one, range(100)))


@needs("ipv6")
def test_ipv6_addresses_work_on_both_sides(bench: Bench, leader: Store, follower: Store) -> None:
    staged = bench.add(leader, FILES)
    server = BlobServer(leader, "::1", 0)
    bench.to_close.append(server.close)
    host, port = server.start()
    bring(follower, staged, f"[{host}]:{port}")
    follower.verify(staged.digest)


def test_closing_breaks_what_is_under_way_in_bounded_time_and_frees_the_port(
    bench: Bench, leader: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    content = os.urandom(1 << 20) * 32
    bench.add(leader, {"big": content})
    server = BlobServer(leader, "127.0.0.1", 0)
    host, port = server.start()
    with socket.create_connection((host, port)) as client, socket.create_connection((host, port)):
        client.sendall(f"GET /objects/{digest_bytes(content)} HTTP/1.1\r\n\r\n".encode())
        assert client.recv(10)  # and then the client reads no more, so the server's thread blocks
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 3
    server.close()
    again = BlobServer(leader, host, port)
    assert again.start() == (host, port)
    again.close()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("leaderjob-http")] == []
    assert capfd.readouterr().err == ""


def test_a_taken_port_is_an_error_that_names_it(bench: Bench, leader: Store) -> None:
    address = bench.serve(leader)
    host, port = address.split(":")
    with pytest.raises(CannotListen, match=address):
        BlobServer(leader, host, int(port)).start()
    with pytest.raises(CannotListen, match="70000"):
        BlobServer(leader, host, 70000).start()


def test_another_route_can_be_added_and_its_failure_stays_its_own(
    bench: Bench, leader: Store, caplog: pytest.LogCaptureFixture
) -> None:
    server = BlobServer(leader, "127.0.0.1", 0)
    bench.to_close.append(server.close)
    seen: list[Request] = []

    def health(request: Request) -> Reply:
        seen.append(request)
        return plain(HTTPStatus.OK, "fine")

    def broken(request: Request) -> Reply:
        raise ValueError("a defect")

    server.add_route("/healthz", health)
    server.add_route("/broken", broken)
    address = "{}:{}".format(*server.start())
    assert ask(address, "/healthz", X_Test="1")[::2] == (200, b"fine\n")
    assert seen[0].headers["x-test"] == "1"
    assert ask(address, "/broken")[0] == 500
    assert "a defect" in caplog.text
    assert ask(address, "/healthz/below")[0] == 404
