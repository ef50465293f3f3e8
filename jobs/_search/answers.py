"""The answering of queries on an opened index: results, scores and snippets."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderjob import BadQuery

from .index import load_tantivy, open_index
from .ranking import build_query

if TYPE_CHECKING:
    import tantivy

MARK_START, MARK_END = "«", "»"
"""Around each word of a snippet that matched: ``start a «child» process``."""

MAX_RESULTS = 100
MAX_QUERY_CHARS = 1000
SNIPPET_CHARS = 200


class Searcher:
    """Answers queries on the index in one directory, which it opens once and never writes to.

    :raises ValueError: the directory holds no index that can be read.
    """

    def __init__(self, directory: Path) -> None:
        self._index, self._searcher = open_index(directory)

    def search(self, q: str, limit: int = 10, snippet: bool = True) -> dict[str, Any]:
        """The documents that match ``q``, the best first.

        All words must match; when no document has them all, any will do, and ``relaxed`` is true.
        ``"two words"`` is a phrase, ``-word`` leaves out, ``OR`` gives a choice, and ``kind:class``,
        ``title:``, ``path:``, ``metadata.year:2020`` look in one field.

        The answer has ``query``, ``hits`` (how many results it carries), ``total`` (how many documents
        match), ``documents`` (how many there are), ``relaxed`` and ``results``: objects with ``title``,
        ``kind``, ``path``, ``line``, ``signature``, ``score`` (for comparison within this answer only),
        ``snippet`` (plain text, what matched between « and »; empty unless asked for) and ``metadata``.

        :param limit: at most so many results, from 1 to 100.
        :raises BadQuery: a parameter is wrong or the query cannot be read; the message says why.
        """
        _check(q, limit)
        relaxed = False
        found, written = self._find(q, limit, all_words=True)
        if not found.hits:
            found, written = self._find(q, limit, all_words=False)
            relaxed = bool(found.hits)
        marker = self._marker(written) if snippet else None
        results = [self._result(score, address, marker) for score, address in found.hits]
        return {
            "query": q,
            "hits": len(results),
            "total": found.count,  # type: ignore[attr-defined]  # missing in the stubs of 0.27
            "documents": self._searcher.num_docs,
            "relaxed": relaxed,
            "results": results,
        }

    def _find(self, q: str, limit: int, *, all_words: bool) -> "tuple[tantivy.SearchResult, tantivy.Query]":
        ranked, written = build_query(self._index, q, all_words=all_words)
        try:
            return self._searcher.search(ranked, limit), written
        except ValueError as error:
            # Some queries can be read and only then turn out to ask for what the fields cannot do.
            raise BadQuery(f"the query {q!r} cannot be answered ({error}): look for words instead") from error

    def _marker(self, written: "tantivy.Query") -> "tantivy.SnippetGenerator":
        marker = load_tantivy().SnippetGenerator.create(self._searcher, written, self._index.schema, "body")
        marker.set_max_num_chars(SNIPPET_CHARS)
        return marker  # type: ignore[no-any-return]

    def _result(
        self, score: float, address: "tantivy.DocAddress", marker: "tantivy.SnippetGenerator | None"
    ) -> dict[str, Any]:
        document = self._searcher.doc(address)
        fields = ("title", "kind", "path", "line", "signature")
        return {
            **{field: document.get_first(field) for field in fields},
            "score": round(score, 3),
            "snippet": "" if marker is None else _snippet(marker, document),
            "metadata": document.get_first("metadata") or {},
        }


def _check(q: str, limit: int) -> None:
    if not isinstance(q, str) or not q.strip():
        raise BadQuery("the query is empty: give at least one word in 'q'")
    if len(q) > MAX_QUERY_CHARS:
        raise BadQuery(f"the query has {len(q)} characters: {MAX_QUERY_CHARS} is the most that is taken")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_RESULTS:
        raise BadQuery(f"limit is {limit!r}: it must be a whole number from 1 to {MAX_RESULTS}")


def _snippet(marker: "tantivy.SnippetGenerator", document: "tantivy.Document") -> str:
    """The part of the body with the most matches, on one line; its beginning if only the title matched."""
    best = marker.snippet_from_doc(document)
    fragment = best.fragment().encode()  # its ranges count bytes of UTF-8
    if not fragment:
        return _beginning(document.get_first("body") or "")
    pieces, end = [], 0
    for highlight in best.highlighted():
        pieces += [fragment[end : highlight.start], MARK_START.encode()]
        pieces += [fragment[highlight.start : highlight.end], MARK_END.encode()]
        end = highlight.end
    text = b"".join([*pieces, fragment[end:]]).decode()
    return " ".join(text.split())


def _beginning(body: str) -> str:
    words = " ".join(body[: 2 * SNIPPET_CHARS].split())
    if len(words) <= SNIPPET_CHARS:
        return words
    return words[:SNIPPET_CHARS].rpartition(" ")[0] + " …"
