"""Serves the objects of a store to other replicas: ``GET /objects/<digest>``, with ranges.

Requests carry digests, never paths. Objects never change, so any answer may be kept for ever.
"""

import re
import threading
from http import HTTPStatus

from leaderjob.model.artifact import valid_digest
from leaderjob.places import Places
from leaderjob.results.errors import CannotListen, ObjectMissing
from leaderjob.results.httpd import POLL_S, Reply, Request, Route, ThreadedServer, plain
from leaderjob.results.objects import Objects
from leaderjob.results.store import Store
from leaderjob.tls import CertificateFiles, Fresh

OBJECTS_PATH = "/objects/"
_CONNECTIONS_BESIDE_TRANSFERS = 32
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class BlobServer:
    """Serves ``store`` on ``host``:``port`` (0 takes a free one), in threads of its own.

    :param max_transfers: requests for objects beyond this are answered 503 with Retry-After; other routes have
        connections left then.
    :param max_transfers_per_peer: of these, so many to one address, behind which several replicas may be: each has
        one for each job that it fetches.
    :param request_timeout_s: how long a connection may take until its first request is there.
    :param idle_timeout_s: how long it may then stay silent, or refuse to take bytes.
    :param certificates: TLS by these; objects are for those who have a certificate of their authority, other
        routes decide for themselves (``Request.peer_known``). None: nothing is encrypted.
    """

    def __init__(
        self,
        store: Store,
        host: str,
        port: int,
        *,
        max_transfers: int = 64,
        max_transfers_per_peer: int = 32,
        request_timeout_s: float = 3.0,
        idle_timeout_s: float = 30.0,
        certificates: CertificateFiles | None = None,
    ) -> None:
        self._address = (host, port)
        self._max_connections = max_transfers + _CONNECTIONS_BESIDE_TRANSFERS
        self._request_timeout_s = request_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._tls = Fresh(certificates, CertificateFiles.server_context) if certificates is not None else None
        places = Places(max_transfers, per_peer=max_transfers_per_peer)
        self._routes: dict[str, Route] = {OBJECTS_PATH: object_route(store.objects, places)}
        self._server: ThreadedServer | None = None
        self._thread: threading.Thread | None = None

    def add_route(self, path: str, route: Route) -> None:
        """Answer ``path`` (or all paths below it, if it ends in ``/``) by ``route``, called in threads."""
        self._routes[path] = route

    def start(self) -> tuple[str, int]:
        """Listen; returns the address that was bound.

        :raises CannotListen: the address is taken, or not one of this machine.
        """
        host, port = self._address
        try:
            self._server = ThreadedServer(
                self._address,
                self._routes,
                max_connections=self._max_connections,
                request_timeout_s=self._request_timeout_s,
                idle_timeout_s=self._idle_timeout_s,
                tls=self._tls.get if self._tls is not None else None,
            )
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise CannotListen(
                f"cannot listen on {host}:{port} ({why}), so no other replica could fetch "
                "artifacts from this one: free the port, or set another address"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": POLL_S},
            name="leaderjob-http-accept",
            daemon=True,
        )
        self._thread.start()
        return host, int(self._server.server_address[1])

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop listening and break what is under way, within about ``timeout_s``. May be called twice."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join(timeout_s)
        self._server.server_close()
        self._server.disconnect_all(timeout_s)
        self._server = self._thread = None


def object_route(objects: Objects, places: Places) -> Route:
    """The route that answers ``/objects/<digest>`` out of ``objects``, to those who find a place."""

    def answer(request: Request) -> Reply:
        if not request.peer_known:
            return plain(HTTPStatus.FORBIDDEN, "published files are for those who show a certificate")
        digest = request.path.removeprefix(OBJECTS_PATH)
        if not valid_digest(digest):
            return plain(HTTPStatus.NOT_FOUND)
        size_bytes = objects.size_bytes(digest)
        if size_bytes is None:
            return plain(HTTPStatus.NOT_FOUND)
        try:
            return _whole_or_part(request, objects, digest, size_bytes, places)
        except ObjectMissing:  # swept since its size was asked
            return plain(HTTPStatus.NOT_FOUND)

    return answer


def _whole_or_part(request: Request, objects: Objects, digest: str, size_bytes: int, places: Places) -> Reply:
    """:raises ObjectMissing: it is gone."""
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, max-age=31536000, immutable",
        "Content-Type": "application/octet-stream",
        "ETag": f'"{digest}"',
    }
    wanted = _wanted_range(request, digest, size_bytes)
    if wanted is not None and not wanted:
        return Reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size_bytes}"})
    status = HTTPStatus.OK
    if wanted:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size_bytes}"
    else:
        wanted = range(size_bytes)
    file = objects.open(digest)
    place = places.take(request.peer)
    if place is None:
        file.close()
        return Reply(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"})
    return Reply(status, headers, file=file, offset=wanted.start, length=len(wanted), place=place)


def _wanted_range(request: Request, digest: str, size_bytes: int) -> range | None:
    """The bytes asked for: None means all of them, an empty range that there are none such (RFC 9110, 14).

    Anything but one well-formed range is ignored, as the RFC allows, and so is a range for another content.
    """
    header = request.headers.get("range")
    if (
        header is None
        or request.method != "GET"
        or request.headers.get("if-range", f'"{digest}"') != f'"{digest}"'
    ):
        return None
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size_bytes - int(last)), size_bytes) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size_bytes) if last else size_bytes)
