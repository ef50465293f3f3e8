"""What Sentry is to a program that reports to it: a server that takes envelopes, or fails to."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from leaderjob.clock import boottime

Item = dict[str, Any]


class SentryServer:
    """Keeps what it is sent; a context manager.

    :param status: what it answers; None: nothing, for as long as it runs.
    """

    def __init__(self, status: int | None = 200) -> None:
        self._status = status
        self._items: list[tuple[str, Item]] = []
        self._arrived = threading.Condition()
        self._closing = threading.Event()
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                server._take(parse_envelope(body))
                if server._status is None:
                    server._closing.wait()
                    return
                self.send_response(server._status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
                """Nothing: the test says what it wants to know."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def dsn(self) -> str:
        return f"http://publickey@127.0.0.1:{self._server.server_port}/7"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def errors(self) -> list[Item]:
        return self._of("event")

    def check_ins(self, slug: str | None = None) -> list[Item]:
        return [item for item in self._of("check_in") if slug in (None, item["monitor_slug"])]

    def wait(self, count: int, kind: str, *, timeout_s: float = 15.0, **fields: Any) -> list[Item]:
        """The items of a kind with these fields, once there are so many.

        :raises AssertionError: there are not in time.
        """

        def found() -> list[Item]:
            return [item for item in self._of(kind) if fields.items() <= item.items()]

        give_up_at = boottime() + timeout_s
        with self._arrived:
            while len(found()) < count:
                left_s = give_up_at - boottime()
                assert left_s > 0, f"{len(found())} of {count} {kind} {fields} came: {self._items}"
                self._arrived.wait(left_s)
            return found()

    def _of(self, kind: str) -> list[Item]:
        return [item for item_kind, item in self._items if item_kind == kind]

    def _take(self, items: list[tuple[str, Item]]) -> None:
        with self._arrived:
            self.requests += 1
            self._items += items
            self._arrived.notify_all()


def parse_envelope(body: bytes) -> list[tuple[str, Item]]:
    """The items of an envelope, which are JSON: the type, and the payload."""
    _, _, rest = body.partition(b"\n")
    items = []
    while rest:
        head, _, rest = rest.partition(b"\n")
        header = json.loads(head)
        length = header.get("length", rest.find(b"\n") if b"\n" in rest else len(rest))
        items.append((header["type"], json.loads(rest[:length])))
        rest = rest[length:].removeprefix(b"\n")
    return items
