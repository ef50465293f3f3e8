"""A server that more people come to than it has places for: who is answered, who has to come again, who goes."""

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus

import pytest

from leaderjob.results.digests import digest_bytes
from leaderjob.results.httpd import Reply, Request, plain
from leaderjob.results.server import BlobServer
from leaderjob.results.store import Store
from leaderjob.tls import CertificateFiles
from tests.support.authority import Authority
from tests.support.transfers import Bench

_LARGE = os.urandom(1 << 20) * 16  # more than the buffers between two sockets hold
_LONG_TEXT = "x" * (16 << 20)
_PATH = f"/objects/{digest_bytes(_LARGE)}"


class Crowded:
    """A server of one large object, of ``/healthz`` and of a ``/long`` text, and those who come to it."""

    def __init__(self, stack: ExitStack, bench: Bench, store: Store, **options: object) -> None:
        def healthz(request: Request) -> Reply:
            return plain(HTTPStatus.OK, "fine")

        def long(request: Request) -> Reply:
            return plain(HTTPStatus.OK, _LONG_TEXT)

        bench.add(store, {"large": _LARGE})
        server = BlobServer(store, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
        server.add_route("/healthz", healthz)
        server.add_route("/long", long)
        stack.callback(server.close)
        self.address = server.start()
        self.add_route = server.add_route
        self._stack = stack

    def connect(self, of: str = "127.0.0.1") -> socket.socket:
        return self._stack.enter_context(
            socket.create_connection(self.address, timeout=5, source_address=(of, 0))
        )

    def ask(self, path: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        host, port = self.address
        connection = (
            http.client.HTTPConnection(host, port, timeout=5)
            if context is None
            else http.client.HTTPSConnection(host, port, timeout=5, context=context)
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def fetch_slowly(self, of: str = "127.0.0.1") -> socket.socket:
        """A transfer that has begun and does not go on, as nobody reads; or the refusal of one."""
        connection = self.connect(of)
        connection.sendall(f"GET {_PATH} HTTP/1.1\r\n\r\n".encode())
        return connection


Crowd = Callable[..., Crowded]


@pytest.fixture
def crowd(bench: Bench, leader: Store) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield lambda **options: Crowded(stack, bench, leader, **options)


@pytest.fixture
def authority(bench: Bench) -> Authority:
    return Authority(bench.root / "authority")


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(12).split()[1])


def threads() -> int:
    return sum(thread.name == "leaderjob-http" for thread in threading.enumerate())


def gone(connection: socket.socket) -> bool:
    """Whether the server has let go, at the latest when the socket's timeout is over."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_transfers_beyond_the_bound_come_again_later_and_everything_else_is_answered(crowd: Crowd) -> None:
    server = crowd(max_transfers=4, max_transfers_per_peer=4)
    slow = [server.fetch_slowly() for _ in range(4)]
    assert [status_of(connection) for connection in slow] == [200] * 4
    for _ in range(50):
        assert server.ask(_PATH)[0] == 503
        assert server.ask("/healthz") == (200, b"fine\n")
    slow[0].close()
    give_up_at = time.monotonic() + 5
    while server.ask(_PATH)[0] == 503:
        assert time.monotonic() < give_up_at


def test_one_address_cannot_have_all_transfers(crowd: Crowd) -> None:
    server = crowd(max_transfers=4, max_transfers_per_peer=2)
    assert [status_of(server.fetch_slowly("127.0.0.2")) for _ in range(3)] == [200, 200, 503]
    assert [status_of(server.fetch_slowly("127.0.0.3")) for _ in range(3)] == [200, 200, 503]
    assert status_of(server.fetch_slowly("127.0.0.4")) == 503


def test_who_has_not_found_a_place_keeps_its_connection_and_asks_again(crowd: Crowd) -> None:
    server = crowd(max_transfers=1, max_transfers_per_peer=1)
    holder = server.fetch_slowly()
    assert status_of(holder) == 200
    waiting = http.client.HTTPConnection(*server.address, timeout=5)
    waiting.request("GET", _PATH)
    refused = waiting.getresponse()
    assert (refused.status, refused.headers["Retry-After"], refused.read()) == (503, "1", b"")
    connection = waiting.sock
    waiting.request("GET", "/healthz")
    assert waiting.getresponse().read() == b"fine\n"
    assert waiting.sock is connection
    waiting.close()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_hundreds_of_idle_connections_keep_nobody_from_an_answer_and_threads_are_few(
    crowd: Crowd, authority: Authority, encrypted: bool
) -> None:
    server = crowd(request_timeout_s=60.0, certificates=authority.issue("leader") if encrypted else None)
    context = CertificateFiles(ca=authority.ca).client_context() if encrypted else None
    idle = []
    for _ in range(300):
        idle.append(server.connect())
        assert threads() <= 96 + 4  # some have left their places, and not ended quite yet
    for _ in range(5):
        assert server.ask("/healthz", context) == (200, b"fine\n")
    for connection in idle:
        connection.settimeout(0.01)
    assert all(gone(connection) for connection in idle[:204])
    assert not any(gone(connection) for connection in idle[209:]), "who has waited longest goes first"


def test_the_idle_make_room_while_all_transfers_are_taken(crowd: Crowd) -> None:
    server = crowd(max_transfers=8, max_transfers_per_peer=8)
    assert [status_of(server.fetch_slowly()) for _ in range(8)] == [200] * 8
    for _ in range(100):
        server.connect()
    assert server.ask("/healthz") == (200, b"fine\n")


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_whoever_asks_nothing_loses_its_place(crowd: Crowd, authority: Authority, encrypted: bool) -> None:
    server = crowd(
        request_timeout_s=0.3,
        idle_timeout_s=20.0,
        certificates=authority.issue("leader") if encrypted else None,
    )
    assert gone(server.connect())


def test_whoever_asks_byte_by_byte_loses_its_place(crowd: Crowd) -> None:
    server = crowd(request_timeout_s=0.5, idle_timeout_s=20.0)
    slow = server.connect()
    slow.settimeout(0.05)
    give_up_at = time.monotonic() + 5
    slow.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
    while not gone(slow):
        assert time.monotonic() < give_up_at
        try:
            slow.sendall(b"x")
        except OSError:
            break


def test_whoever_does_not_take_a_short_answer_loses_its_place(crowd: Crowd) -> None:
    server = crowd(request_timeout_s=0.5, idle_timeout_s=20.0)
    slow = server.connect()
    slow.sendall(b"GET /long HTTP/1.1\r\n\r\n")
    assert slow.recv(12) == b"HTTP/1.1 200"
    give_up_at = time.monotonic() + 5
    while threads():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_whoever_has_asked_may_be_idle_for_longer(crowd: Crowd) -> None:
    server = crowd(request_timeout_s=0.3, idle_timeout_s=20.0)
    kept = http.client.HTTPConnection(*server.address, timeout=1.0)
    for _ in range(2):
        kept.request("GET", "/healthz")
        assert kept.getresponse().read() == b"fine\n"
        assert not gone(kept.sock)
    kept.close()


def test_a_transfer_may_take_longer_than_a_request(crowd: Crowd) -> None:
    server = crowd(request_timeout_s=0.3, idle_timeout_s=20.0)
    slow = server.fetch_slowly()
    assert status_of(slow) == 200
    time.sleep(1.0)  # what is shown is that nothing happens
    received = 0
    while received < len(_LARGE):
        chunk = slow.recv(1 << 20)
        assert chunk, f"it broke after {received} bytes"
        received += len(chunk)


def test_one_that_finds_nobody_idle_is_told_to_come_again(crowd: Crowd) -> None:
    asked = threading.Semaphore(0)
    over = threading.Event()

    def busy(request: Request) -> Reply:
        asked.release()
        over.wait(10)
        return plain(HTTPStatus.OK)

    server = crowd(max_transfers=1, max_transfers_per_peer=1)
    server.add_route("/busy", busy)
    for _ in range(33):
        server.connect().sendall(b"GET /busy HTTP/1.1\r\n\r\n")
        assert asked.acquire(timeout=5)
    try:
        assert server.ask("/healthz") == (503, b"")
    finally:
        over.set()
