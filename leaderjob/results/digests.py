"""Digests with their algorithm in front: ``blake3:`` is what we write, ``sha256:`` is accepted too.

BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) because hashing is what bounds a verified transfer,
and it is several times faster than SHA-256.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Protocol

from blake3 import blake3

from leaderjob.model.artifact import PIECE_BYTES, valid_digest

BLAKE3 = "blake3"
SHA256 = "sha256"


class Hasher(Protocol):
    """What ``hashlib`` and ``blake3`` objects have in common."""

    def update(self, content: bytes | bytearray | memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class FileDigests:
    """Size, digest of the whole, and digests of its pieces of 4 MiB (the last one shorter)."""

    size_bytes: int
    digest: str
    piece_digests: tuple[str, ...]


def algorithm_of(digest: str) -> str:
    """The algorithm of a digest that is already known to be valid."""
    return digest.partition(":")[0]


def new_hasher(algorithm: str = BLAKE3) -> Hasher:
    """An empty hasher. :raises ValueError: neither ``blake3`` nor ``sha256``."""
    if algorithm == BLAKE3:
        return blake3()
    if algorithm == SHA256:
        return hashlib.sha256()
    raise ValueError(f"unknown digest algorithm {algorithm!r}: expected 'blake3' or 'sha256'")


def digest_bytes(content: bytes | bytearray | memoryview, algorithm: str = BLAKE3) -> str:
    """The digest of ``content``, with its prefix."""
    hasher = new_hasher(algorithm)
    hasher.update(content)
    return f"{algorithm}:{hasher.hexdigest()}"


def matches(content: bytes | bytearray | memoryview, digest: str) -> bool:
    """Whether ``content`` has this digest, by the algorithm that the digest names."""
    return valid_digest(digest) and digest_bytes(content, algorithm_of(digest)) == digest


def digest_file(
    file: BufferedIOBase, algorithm: str = BLAKE3, *, check: Callable[[], None] = lambda: None
) -> FileDigests:
    """All digests of a file, read once from its present position to its end.

    :param check: called before each piece; ends the reading by raising.
    """
    whole = new_hasher(algorithm)
    pieces: list[str] = []
    size_bytes = 0
    for piece in read_pieces(file):
        check()
        size_bytes += len(piece)
        whole.update(piece)
        pieces.append(digest_bytes(piece, algorithm))
    return FileDigests(size_bytes, f"{algorithm}:{whole.hexdigest()}", tuple(pieces))


def file_matches(file: BufferedIOBase, digest: str) -> bool:
    """Whether what is left of ``file`` has this digest."""
    whole = new_hasher(algorithm_of(digest))
    for piece in read_pieces(file):
        whole.update(piece)
    return f"{algorithm_of(digest)}:{whole.hexdigest()}" == digest


def read_pieces(file: BufferedIOBase) -> Iterator[memoryview]:
    """The pieces of a file. Each view is valid until the next one is asked for: the buffer is reused."""
    buffer = memoryview(bytearray(PIECE_BYTES))
    while True:
        filled = 0
        while filled < PIECE_BYTES:
            count = file.readinto(buffer[filled:])
            if not count:
                break
            filled += count
        if filled:
            yield buffer[:filled]
        if filled < PIECE_BYTES:
            return
