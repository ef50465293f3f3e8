"""One replica that may hold what we want: a connection to its blob server, kept alive between requests.

Every way in which it can disappoint is one of three errors, because they have different consequences:
it is not asked again (`WrongBytes`), not for this object (`Refused`), or only after the others (`Broken`).
"""

import http.client
import re
import socket
import ssl
from collections.abc import Generator
from http import HTTPStatus

from leaderjob.errors import LeaderjobError

CONNECT_S = 3.0


class SourceError(LeaderjobError):
    """A source did not deliver."""


class WrongBytes(SourceError):
    """It sent something else than what its digest or its size says."""


class Refused(SourceError):
    """It answered, and does not deliver this object now."""


class Broken(SourceError):
    """The connection failed, fell silent, or ended too early."""


class Source:
    """``address`` is ``HOST:PORT``. For one thread, but for :meth:`interrupt`.

    :param tls: encrypts, and checks who answers; None: nothing is encrypted.
    """

    def __init__(self, address: str, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._tls = tls
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None

    def read(
        self, digest: str, *, offset: int, size_bytes: int, piece_bytes: int
    ) -> Generator[memoryview, None, None]:
        """The pieces of an object of ``size_bytes`` > 0, from byte ``offset`` on; unverified.

        Each view is valid until the next one is asked for. The connection is closed unless all were.
        """
        buffer = memoryview(bytearray(min(piece_bytes, size_bytes - offset)))
        complete = False
        try:
            response = self._ask(digest, offset)
            self._check(response, offset, size_bytes)
            while offset < size_bytes:
                piece = buffer[: min(piece_bytes, size_bytes - offset)]
                _fill(response, piece)
                offset += len(piece)
                yield piece
            complete = True
        except (OSError, http.client.HTTPException) as error:
            raise Broken(_describe(error)) from error
        finally:
            if not complete:
                self.close()

    def interrupt(self) -> None:
        """Let a read that blocks in another thread end now, as if the connection had broken."""
        current = self._socket
        if current is not None:
            try:
                current.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # not connected any more, which is what was wanted

    def close(self) -> None:
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            connection.close()

    def _ask(self, digest: str, offset: int) -> http.client.HTTPResponse:
        kept = self._connection is not None
        try:
            return self._request(digest, offset)
        except ConnectionError:
            if not kept:
                raise
        # The server may have closed a connection that was idle while we wrote to the disk: no fault of its.
        self.close()
        return self._request(digest, offset)

    def _request(self, digest: str, offset: int) -> http.client.HTTPResponse:
        connection = self._connection or self._connect()
        connection.request(
            "GET", f"/objects/{digest}", headers={"Range": f"bytes={offset}-"} if offset else {}
        )
        return connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        host, _, port = self.address.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port):
            raise Broken("this is not an address of the form HOST:PORT")
        connect_s = min(CONNECT_S, self._timeout_s)  # short: nothing can interrupt a connect
        name = host.strip("[]")
        connection = (
            http.client.HTTPConnection(name, int(port), timeout=connect_s)
            if self._tls is None
            else http.client.HTTPSConnection(name, int(port), timeout=connect_s, context=self._tls)
        )
        connection.connect()
        connection.sock.settimeout(self._timeout_s)
        self._connection, self._socket = connection, connection.sock
        return connection

    def _check(self, response: http.client.HTTPResponse, offset: int, size_bytes: int) -> None:
        expected = HTTPStatus.PARTIAL_CONTENT if offset else HTTPStatus.OK
        if response.status != expected:
            raise Refused(f"answered {response.status} {response.reason[:60]!r}")
        length = response.headers.get("Content-Length", "absent")
        if length != str(size_bytes - offset):
            raise WrongBytes(f"offered {length[:40]} bytes where {size_bytes - offset} are published")
        part = response.headers.get("Content-Range")
        if offset and part != f"bytes {offset}-{size_bytes - 1}/{size_bytes}":
            raise WrongBytes(f"sent the range {str(part)[:60]!r}, asked was the rest from byte {offset}")


def _fill(response: http.client.HTTPResponse, piece: memoryview) -> None:
    filled = 0
    while filled < len(piece):
        count = response.readinto(piece[filled:])
        if not count:
            raise Broken(f"the connection ended {len(piece) - filled} bytes before the end of a piece")
        filled += count


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{getattr(error, 'strerror', None) or error or type(error).__name__}"[:200]
