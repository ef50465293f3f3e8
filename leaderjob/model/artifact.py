"""What a run produced: the manifest of its files, and the records that publish it."""

import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Self

from pydantic import field_validator, model_validator

from leaderjob.model.record import Record
from leaderjob.names import Name

PIECE_BYTES = 4 * 1024 * 1024
MAX_FILES = 100_000
_DIGEST = re.compile(r"(blake3|sha256):[0-9a-f]{64}")


def valid_digest(text: str) -> bool:
    """Whether ``text`` is ``blake3:`` or ``sha256:`` and 64 hex digits."""
    return _DIGEST.fullmatch(text) is not None


def _check_digest(text: str) -> str:
    if not valid_digest(text):
        raise ValueError(f"{text!r} is not a digest: expected 'blake3:' or 'sha256:' and 64 hex digits")
    return text


class FileEntry(Record):
    """One file of a version. ``piece_digests`` are those of its pieces of 4 MiB, the last one shorter."""

    path: str
    size_bytes: int
    digest: str
    piece_digests: tuple[str, ...]

    @field_validator("path")
    @classmethod
    def _relative_and_plain(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if (
            path in ("", ".")
            or pure.is_absolute()
            or str(pure) != path
            or any(part in ("..", ".") for part in pure.parts)
            or "\0" in path
            or "\\" in path
        ):
            raise ValueError(f"{path!r} is not a normalised relative path")
        return path

    @field_validator("digest")
    @classmethod
    def _digest(cls, digest: str) -> str:
        return _check_digest(digest)

    @field_validator("piece_digests")
    @classmethod
    def _pieces(cls, digests: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_check_digest(digest) for digest in digests)

    @model_validator(mode="after")
    def _as_many_digests_as_pieces(self) -> Self:
        pieces = -(-self.size_bytes // PIECE_BYTES)
        if self.size_bytes < 0 or len(self.piece_digests) != pieces:
            raise ValueError(f"{self.path!r}: {self.size_bytes} bytes need {pieces} piece digests")
        return self


class Manifest(Record):
    """The list of a version's files, ordered by path; a blob that is itself fetched by its digest."""

    job: str
    run: str
    files: tuple[FileEntry, ...]

    @model_validator(mode="after")
    def _no_two_paths_that_are_one(self) -> Self:
        folded = [entry.path.casefold() for entry in self.files]
        if len(set(folded)) != len(folded):
            raise ValueError("two paths are the same, or differ in case only")
        taken = set(folded)
        for path in folded:
            if any(str(parent) in taken for parent in PurePosixPath(path).parents):
                raise ValueError(f"{path!r} lies below a path that is a file")
        if len(self.files) > MAX_FILES:
            raise ValueError(f"{len(self.files)} files: at most {MAX_FILES} are allowed")
        return self

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)


class Staged(Record):
    """``results/<job>/staged/<run>``: the bytes are ready on the leader, but not published."""

    job: Name
    run: Name
    token: int
    digest: str
    manifest_bytes: int
    size_bytes: int
    file_count: int

    @field_validator("digest")
    @classmethod
    def _digest(cls, digest: str) -> str:
        return _check_digest(digest)


class Version(Record):
    """``results/<job>/versions/<version>``: one published artifact. Its number is never reused.

    ``sequence`` is that of the pointer when the version was published.

    ``result`` is the JSON value that the job returned, if it did (at most 256 KiB).
    """

    version: int
    sequence: int
    run: Name
    token: int
    digest: str
    manifest_bytes: int
    size_bytes: int
    file_count: int
    published: datetime
    fire_time: datetime | None = None
    result: Any = None

    @field_validator("digest")
    @classmethod
    def _digest(cls, digest: str) -> str:
        return _check_digest(digest)


class Numbers(Record):
    """``results/<job>/numbers``: the highest number of a version and the highest sequence of a pointer that were ever
    given. Never lowered, so neither comes twice, whatever becomes of the pointer and the versions."""

    version: int
    sequence: int


class Forgotten(Record):
    """``jobs/<job>/forgotten``: the highest numbers of a job whose history was deleted. If it comes back, it goes on
    from there: replicas may still have the old versions on their disks."""

    version: int
    sequence: int
    at: datetime


class Pointer(Version):
    """``results/<job>/current``: which version is in force. Followers order by ``sequence``, which grows
    by one at each write of the pointer."""
