"""Corpus JSON-lines file: one document for each line, a JSON object with a title and a body."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .document import MAX_BODY_CHARS, MAX_TITLE_CHARS, Document, Scalar, unicode_text

MAX_LINE_BYTES = 4 << 20
MAX_NAMED_LINES = 20
"""So many malformed lines are named in the log; the others are only counted."""

MAX_METADATA_CHARS = 10_000
_INT64 = range(-(2**63), 2**63)


class JsonLines:
    """The lines of ``path``; their other scalar fields are kept as metadata.

    A line is malformed when it is longer than 4 MiB, is not a JSON object, or has neither a title nor a
    body that is text. Malformed lines are counted and left out.
    """

    kind = "json-lines"

    def __init__(self, path: Path, title_field: str, body_field: str, log: logging.Logger) -> None:
        self.total = path.stat().st_size
        self.done = 0
        self.skipped: Counter[str] = Counter()
        self.taken = f"lines that are JSON objects with text in {title_field!r} or {body_field!r}"
        self._path = path
        self._title_field = title_field
        self._body_field = body_field
        self._log = log

    def documents(self) -> Iterator[Document]:
        """Yield line by line."""
        with self._path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    _skip_rest_of_line(file, line)
                    self._malformed(number, f"longer than {MAX_LINE_BYTES >> 20} MiB")
                elif line.strip():
                    try:
                        document = self._document(number, line)
                    except (ValueError, RecursionError) as error:
                        self._malformed(number, str(error))
                    else:
                        yield document
                self.done = file.tell()

    def _malformed(self, number: int, reason: str) -> None:
        self.skipped["malformed"] += 1
        if self.skipped["malformed"] <= MAX_NAMED_LINES:
            self._log.warning("left out line %d of %s: %s", number, self._path, reason)
        if self.skipped["malformed"] == MAX_NAMED_LINES:
            self._log.warning("further malformed lines of %s are counted, not named", self._path)

    def _document(self, number: int, line: bytes) -> Document:
        value = json.loads(line, parse_constant=_refuse_constant)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004 - bad content, not a bad call
        title, body = self._text(value, self._title_field), self._text(value, self._body_field)
        if not title and not body:
            raise ValueError(f"no text in {self._title_field!r} and none in {self._body_field!r}")
        others = {key: v for key, v in value.items() if key not in (self._title_field, self._body_field)}
        return Document(
            title=unicode_text(title or f"{self._path.name}:{number}", MAX_TITLE_CHARS),
            kind="record",
            path=self._path.name,
            line=number,
            body=unicode_text(body, MAX_BODY_CHARS),
            metadata=_scalars(others),
        )

    @staticmethod
    def _text(value: dict[str, Any], field: str) -> str:
        text = value.get(field)
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{field!r} is not text")
        return (text or "").strip()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _skip_rest_of_line(file: BinaryIO, beginning: bytes) -> None:
    piece = beginning
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(MAX_LINE_BYTES)


def _scalars(value: dict[str, Any]) -> dict[str, Scalar]:
    return {
        unicode_text(key, MAX_TITLE_CHARS): _indexable(item)
        for key, item in value.items()
        if key and isinstance(item, str | int | float | bool)
    }


def _indexable(item: Scalar) -> Scalar:
    """Numbers beyond 64 bits become text: the index has no type for them."""
    if isinstance(item, str):
        return unicode_text(item, MAX_METADATA_CHARS)
    if isinstance(item, float) and not math.isfinite(item):
        return str(item)
    if isinstance(item, int) and item not in _INT64:
        return unicode_text(str(item), MAX_METADATA_CHARS)
    return item
