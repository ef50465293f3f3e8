"""A small HTTP/1.1 server in threads, with a bound on everything: connections, waiting, shutdown.

It serves GET and HEAD of routes that are registered by path. It runs off the event loop because bytes
sent from the loop would delay the keepalive of the lease, and it never writes to stderr by itself.
"""

import errno
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedReader
from typing import Any

from leaderjob.places import Place
from leaderjob.results.connections import Connections

logger = logging.getLogger(__name__)

POLL_S = 0.1
_REFUSED_KEPT = 16
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD. ``path`` is as it was sent: not decoded, query included. Header names are lower case.

    ``peer``: the address that it comes from. ``peer_known``: whoever asks has shown a certificate of our
    authority, or nothing is encrypted here.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    peer: str = ""
    peer_known: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: ``body``, or ``length`` bytes of ``file`` from ``offset``.

    The server closes the file, and leaves the place that was taken for this answer, once it was sent or cannot be.
    """

    status: HTTPStatus
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: BufferedReader | None = None
    offset: int = 0
    length: int = 0
    place: Place | None = None


Route = Callable[[Request], Reply]


def plain(status: HTTPStatus, text: str = "") -> Reply:
    """A reply of one line of text."""
    body = f"{text or status.phrase}\n".encode()
    return Reply(status, {"Content-Type": "text/plain; charset=utf-8"}, body)


class ThreadedServer(socketserver.TCPServer):
    """One thread per connection, at most ``max_connections`` of them. Where more come, the connection that has
    waited longest for its peer makes room; if none waits, the one that comes is told 503.

    ``routes`` maps a path (``/metrics``), or a prefix that ends in ``/`` (``/objects/``), to what answers.
    ``request_timeout_s`` is for a first request to be there as a whole, handshake included, and for a short
    answer to be taken; ``idle_timeout_s`` for the next request, and for each part of a file to be taken.
    ``tls`` gives the context for each new connection; None: nothing is encrypted.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        routes: MutableMapping[str, Route],
        *,
        max_connections: int,
        request_timeout_s: float,
        idle_timeout_s: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.routes = routes
        self.connections = Connections(max_connections)
        self.request_timeout_s = request_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self._tls = tls
        self._refused: deque[tuple[float, socket.socket]] = deque()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Connection)

    def route_for(self, path: str) -> Route | None:
        """The route of exactly this path, else the one with the longest prefix of it."""
        exact = self.routes.get(path)
        if exact is not None and not path.endswith("/"):
            return exact
        prefixes = [known for known in self.routes if known.endswith("/") and path.startswith(known)]
        return self.routes[max(prefixes, key=len)] if prefixes else None

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(POLL_S)  # the connection stays in the queue: do not spin on it meanwhile
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="leaderjob-http", daemon=True
        )
        if not self.connections.enter(thread, request, within_s=self.request_timeout_s):
            self._refuse(request)
            return
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left for us
            self.connections.leave(thread)
            self._refuse(request)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            request.settimeout(self.idle_timeout_s)
            if self._tls is not None:
                request = self._encrypt(request, self._tls())
            self.finish_request(request, client_address)
        except (ConnectionError, TimeoutError, ssl.SSLError):
            pass  # the other side went away, fell silent, or is none of ours: its affair
        except Exception:
            logger.exception("a request could not be answered; its connection was closed")
        finally:
            self.connections.leave(threading.current_thread())
            self.shutdown_request(request)

    def _encrypt(self, request: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        """In the connection's own thread, so that a slow handshake delays nobody else."""
        encrypted = self.connections.wrap(
            lambda: context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        )
        try:
            encrypted.do_handshake()
        except OSError:
            encrypted.close()  # the one that we were given is empty by now
            raise
        return encrypted

    def _refuse(self, request: socket.socket) -> None:
        if self._tls is not None:
            request.close()  # to answer takes a handshake, for which there is no place
            return
        # Closing at once would reset the connection when the request arrives, before 503 was read.
        request.setblocking(False)
        try:
            request.send(_BUSY)
            request.shutdown(socket.SHUT_WR)
        except OSError:
            request.close()  # it is gone already: there is nobody to tell
            return
        self._refused.append((time.monotonic() + 1.0, request))

    def service_actions(self) -> None:
        self.connections.break_overdue()
        while self._refused and (
            len(self._refused) > _REFUSED_KEPT or self._refused[0][0] < time.monotonic()
        ):
            self._refused.popleft()[1].close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.exception("a connection could not be accepted")

    def disconnect_all(self, timeout_s: float) -> None:
        """Break every connection and wait for the threads, at most ``timeout_s`` in all. Nothing is accepted by now."""
        self.connections.break_all(timeout_s)
        while self._refused:
            self._refused.popleft()[1].close()


class _Connection(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = "leaderjob"
    sys_version = ""
    disable_nagle_algorithm = True
    server: ThreadedServer

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the caller counts and logs what matters, and a scanner's noise does not."""

    def _answer(self) -> None:
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True  # a body that we do not read would be taken for the next request
        headers = {name.lower(): value for name, value in self.headers.items()}
        route = self.server.route_for(self.path)
        request = Request(
            self.command, self.path, headers, peer=self.client_address[0], peer_known=self._knows_peer()
        )
        self.server.connections.work()
        try:
            reply = route(request) if route else plain(HTTPStatus.NOT_FOUND)
        except Exception:
            logger.exception("the route of %r failed", self.path[:200])
            reply = plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        if reply.file is None:
            self.server.connections.wait(self.server.request_timeout_s)
        try:
            self._send(reply)
        finally:
            if reply.file is not None:
                reply.file.close()
            if reply.place is not None:
                reply.place.leave()
        self.server.connections.wait(self.server.idle_timeout_s)

    def _knows_peer(self) -> bool:
        # Asked for optionally, a certificate that is there was verified.
        return not isinstance(self.connection, ssl.SSLSocket) or bool(self.connection.getpeercert())

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(reply.length if reply.file else len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if reply.file is None:
            self.wfile.write(reply.body)
        elif (
            reply.length and self.connection.sendfile(reply.file, reply.offset, reply.length) != reply.length
        ):
            self.close_connection = True  # shorter than promised: the client must not wait for the rest
