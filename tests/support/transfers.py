"""Stores and servers that tests of the transfer need: honest ones, and scripted ones."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leaderjob.model.artifact import Manifest
from leaderjob.results.server import BlobServer
from leaderjob.results.store import StagedArtifact, Store
from leaderjob.results.transfer import fetch

LIMIT = 1 << 40
BIG = os.urandom(1 << 16) * 150  # two pieces and a half
FILES = {"a": b"hello", "deep/b": BIG, "copy-of-a": b"hello", "empty": b""}


class Bench:
    """Opens stores and servers, and closes them at the end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.to_close: list[Callable[[], None]] = []

    def store(self, name: str) -> Store:
        store = Store(self.root / name)
        self.to_close.append(store.close)
        return store

    def add(self, store: Store, files: dict[str, bytes], run: str = "r") -> StagedArtifact:
        source = self.root / f"src-{run}"
        source.mkdir()
        for path, content in files.items():
            (source / path).parent.mkdir(exist_ok=True)
            (source / path).write_bytes(content)
        return store.add("job", run, source)

    def serve(self, store: Store, **options: Any) -> str:
        server = BlobServer(store, "127.0.0.1", 0, **options)
        self.to_close.append(server.close)
        host, port = server.start()
        return f"{host}:{port}"

    def raw(self, answer: Callable[[str, int], bytes | None]) -> str:
        """A source that sends whatever bytes ``answer(digest, first byte)`` gives, and hangs up.

        ``None`` means that it falls silent instead.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        over = threading.Event()
        connections: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                head = b""
                while b"\r\n\r\n" not in head and (chunk := connection.recv(65536)):
                    head += chunk
                if not head:
                    continue
                lines = head.decode().split("\r\n")
                first = next((int(line[13:].strip("=-")) for line in lines if line.startswith("Range: ")), 0)
                content = answer(lines[0].split()[1].removeprefix("/objects/"), first)
                if content is None:
                    over.wait(30)
                    return
                with contextlib.suppress(OSError):  # the client hangs up on a liar
                    connection.sendall(content)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def close() -> None:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(10)
            for connection in connections:
                connection.close()

        self.to_close.append(close)
        return "{}:{}".format(*listener.getsockname())


def bring(store: Store, staged: StagedArtifact, *sources: str, **options: Any) -> Manifest:
    return fetch(
        store, staged.digest, staged.manifest_bytes, sources, **{"max_total_bytes": LIMIT, **options}
    )


def clean(store: Store) -> bool:
    return list((store.root / "staging").iterdir()) == []


def answer_ok(content: bytes, first: int, whole: int, sent: bytes | None = None) -> bytes:
    """The head for ``content`` from byte ``first``, followed by it, or by ``sent`` instead."""
    status = f"206 Partial Content\r\nContent-Range: bytes {first}-{whole - 1}/{whole}" if first else "200 OK"
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + (content if sent is None else sent)


def honest(store: Store, spoil: Callable[[str, bytes], bytes] = lambda digest, content: content) -> Any:
    """An answer for ``Bench.raw``: what the store has, through ``spoil``, under the right headers."""

    def answer(digest: str, first: int) -> bytes:
        content = store.objects.path(digest).read_bytes()
        return answer_ok(content[first:], first, len(content), spoil(digest, content[first:]))

    return answer
