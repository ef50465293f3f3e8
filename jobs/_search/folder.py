"""Corpus folder: one document for each text, Markdown, HTML or source file below a folder."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from .document import MAX_BODY_CHARS, MAX_TITLE_CHARS, Document, unicode_text

MAX_FILE_BYTES = 1 << 20
"""Of a longer file the first mebibyte is indexed (counted as ``truncated``)."""

_BINARY_PROBE_BYTES = 8192
_SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__"})
_KINDS = {
    "text": ".txt .text .rst .adoc .org .tex",
    "markdown": ".md .markdown",
    "html": ".html .htm .xhtml",
    "source": (
        ".py .pyi .c .h .cc .cpp .hpp .rs .go .java .kt .scala .cs .swift .js .jsx .ts .tsx .rb .php .pl"
        " .lua .sh .sql .r .proto .css .toml .yaml .yml .ini .cfg"
    ),
}
_KIND_OF_ENDING = {ending: kind for kind, endings in _KINDS.items() for ending in endings.split()}


class Folder:
    """The files below ``root`` that hold text.

    Hidden files and folders, ``node_modules``, binary files and everything whose ending is not known
    are skipped. Symbolic links are not followed: one that leads out of the folder would publish
    what lies elsewhere.
    """

    kind = "folder"
    taken = f"files that end with {', '.join(sorted(_KIND_OF_ENDING))}, outside hidden folders"

    def __init__(self, root: Path, log: logging.Logger) -> None:
        self.done = 0
        self.skipped: Counter[str] = Counter()
        self._root = root
        self._log = log
        self._files = list(self._walk())
        self.total = len(self._files)

    def documents(self) -> Iterator[Document]:
        """Yield file by file, in the order of their paths."""
        for path in self._files:
            document = self._read(path)
            if document is not None:
                yield document
            self.done += 1

    def _walk(self) -> Iterator[Path]:
        for folder, subfolders, names in os.walk(self._root, onerror=self._unreadable):
            subfolders[:] = sorted(
                n for n in subfolders if not n.startswith(".") and n not in _SKIPPED_FOLDERS
            )
            for name in sorted(names):
                if name.startswith("."):
                    continue
                if Path(name).suffix.lower() in _KIND_OF_ENDING:
                    yield Path(folder, name)
                else:
                    self.skipped["other ending"] += 1

    def _unreadable(self, error: OSError) -> None:
        self.skipped["unreadable"] += 1
        self._log.warning("left out %s: it cannot be read (%s)", error.filename, error)

    def _read(self, path: Path) -> Document | None:
        try:
            # A pipe would block and a link may lead anywhere: neither is opened.
            if not stat.S_ISREG(path.lstat().st_mode):
                self.skipped["not a regular file"] += 1
                return None
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            self._unreadable(error)
            return None
        if b"\0" in content[:_BINARY_PROBE_BYTES]:
            self.skipped["binary"] += 1
            return None
        kind = _KIND_OF_ENDING[path.suffix.lower()]
        title, body = _title_and_body(kind, _decode(content[:MAX_FILE_BYTES]))
        if not body.strip():
            self.skipped["empty"] += 1
            return None
        if len(content) > MAX_FILE_BYTES:
            self.skipped["truncated"] += 1
        return Document(
            title=unicode_text(title or _printable(path.name), MAX_TITLE_CHARS),
            kind=kind,
            path=_printable(path.relative_to(self._root).as_posix()),
            line=1,
            body=unicode_text(body, MAX_BODY_CHARS),
        )


def _printable(name: str) -> str:
    """A file name that is not UTF-8 has surrogates in it, which no index takes."""
    return unicode_text(name, len(name))


def _decode(content: bytes) -> str:
    """UTF-8 with or without a byte order mark; a character that the limit cut in two is dropped."""
    return content.decode("utf-8-sig", "replace").rstrip("\ufffd")


def _title_and_body(kind: str, text: str) -> tuple[str, str]:
    if kind == "html":
        page = _Page()
        page.feed(text)
        page.close()
        return page.title, page.text
    if kind == "markdown":
        headings = (line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#"))
        return next(headings, ""), text
    return "", text


_INVISIBLE_TAGS = frozenset({"script", "style", "template", "title"})
_INLINE_TAGS = frozenset(
    (
        "a",
        "abbr",
        "b",
        "cite",
        "code",
        "em",
        "i",
        "kbd",
        "mark",
        "q",
        "s",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "u",
        "var",
    )
)


class _Page(HTMLParser):
    """Collects the title and the visible text of an HTML page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._title_parts: list[str] = []
        self._text_parts: list[str] = []
        self._open_invisible: str | None = None

    @property
    def title(self) -> str:
        return " ".join("".join(self._title_parts).split())

    @property
    def text(self) -> str:
        lines = (" ".join(line.split()) for line in "".join(self._text_parts).splitlines())
        return "\n".join(line for line in lines if line)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._open_invisible is None and tag in _INVISIBLE_TAGS:
            self._open_invisible = tag
        elif tag not in _INLINE_TAGS:
            self._text_parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open_invisible:
            self._open_invisible = None
        elif tag not in _INLINE_TAGS:
            self._text_parts.append("\n")

    def handle_data(self, data: str) -> None:
        if self._open_invisible is None:
            self._text_parts.append(data)
        elif self._open_invisible == "title":
            self._title_parts.append(data)
