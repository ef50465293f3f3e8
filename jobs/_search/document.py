"""What is indexed: documents, and the corpora that yield them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_TITLE_CHARS = 300
MAX_BODY_CHARS = 1 << 20

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Document:
    """One thing that can be found.

    ``kind`` is ``module``, ``class``, ``function`` or ``method`` for Python, ``text``, ``markdown``,
    ``html`` or ``source`` for a file, ``record`` for a line of a JSON-lines file. ``path`` is relative
    to the corpus, ``line`` counts from 1 (0: no line). ``aliases`` are other exact names under which
    it is looked for, ``tiers`` classes that rank it higher; see ``ranking``.
    """

    title: str
    kind: str
    path: str
    line: int
    body: str
    signature: str = ""
    aliases: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


class Corpus(Protocol):
    """A source of documents that knows how far it is.

    ``done`` of ``total`` units of work (files, or bytes of a single file) are behind us while
    :meth:`documents` is consumed; ``skipped`` counts what was left out, by reason; ``taken`` says in
    words what would have been taken, for the message that nothing was.
    """

    kind: str
    total: int
    done: int
    skipped: Counter[str]
    taken: str

    def documents(self) -> Iterator[Document]:
        """Yield every document, in the same order each time the corpus is the same."""


def unicode_text(text: str, max_chars: int) -> str:
    """At most ``max_chars`` of ``text``, lone surrogates replaced: those have no UTF-8 and no index takes them."""
    return text[:max_chars].encode("utf-8", "replace").decode("utf-8")
