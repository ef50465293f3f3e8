"""From the words that somebody typed to a Tantivy query.

All words must match (in any field); words in the title count most. On top of that, a document whose whole
name was typed comes first (``subprocess.Popen`` as well as ``subprocess popen``), then those that are also known by
what was typed (``Popen``, ``asyncio.gather``), then those one of whose words is their name. Of equals, public names
come before private ones, and the standard library before packages.
"""

import re
from typing import TYPE_CHECKING

from leaderjob import BadQuery

from .index import load_tantivy

if TYPE_CHECKING:
    import tantivy

SEARCHED_FIELDS = {"title": 3.0, "words": 2.0, "summary": 1.5, "signature": 0.3, "body": 0.7}
"""Where a word without a field is looked for, and how much a match there counts."""

NAMED_FIELDS = ("title", "body", "signature", "kind", "path", "metadata.<name>")
"""The fields that a query can name (``kind:class``)."""

_EXACT_NAME_SCORE = 1000.0
_ALIAS_SCORE = 40.0
_WORD_IS_NAME_SCORE = 12.0
_ONE_NAME_BOOST = 0.3
"""A query of one name asks for what is called so; how often a docstring repeats the word says little."""

_TIER_SCORES = {"public": 6.0, "stdlib": 8.0, "builtin": 8.0, "shallow": 6.0, "top": 3.0}
_MAX_NAME_WORDS = 8


def build_query(
    index: "tantivy.Index", text: str, *, all_words: bool
) -> tuple["tantivy.Query", "tantivy.Query"]:
    """The query that ranks, and within it what the user wrote (whose words a snippet marks).

    :raises BadQuery: ``text`` has no words, or cannot be read as a query.
    """
    if not re.search(r"\w|\*", text):
        raise BadQuery(f"the query {text!r} has no word to look for: give at least one")
    written, problems = index.parse_query_lenient(
        text.replace("()", ""), list(SEARCHED_FIELDS), SEARCHED_FIELDS, conjunction_by_default=all_words
    )
    if problems:
        raise BadQuery(_explain(text, problems[0]))
    whole = [_is(index, field, name, score) for (field, name), score in _whole_names(text).items()]
    better = [_is(index, "alias", word, _WORD_IS_NAME_SCORE) for word in _plain_words(text)]
    better += [_is(index, "tier", tier, score) for tier, score in _TIER_SCORES.items()]
    boost = _ONE_NAME_BOOST if len(_plain_words(text)) == 1 else 1.0
    weighed = load_tantivy().Query.boost_query(written, boost)
    occur = load_tantivy().Occur
    either = _boolean([(occur.Should, query) for query in [weighed, *whole]])
    return _boolean([(occur.Must, either), *((occur.Should, query) for query in better)]), written


def _boolean(clauses: "list[tuple[tantivy.Occur, tantivy.Query]]") -> "tantivy.Query":
    query: tantivy.Query = load_tantivy().Query.boolean_query(clauses)
    return query


def _is(index: "tantivy.Index", field: str, value: str, score: float) -> "tantivy.Query":
    """Matches documents whose ``field`` is exactly ``value``, each with the same score."""
    kinds = load_tantivy().Query
    query: tantivy.Query = kinds.const_score_query(kinds.term_query(index.schema, field, value), score)
    return query


def _whole_names(text: str) -> dict[tuple[str, str], float]:
    """(field, value) pairs that the whole query may be: as it stands, or its words joined as Python does."""
    names = {("name", text.strip().lower()): _EXACT_NAME_SCORE}
    words = _plain_words(text)
    if words:
        joined = ".".join(words)
        names["name", joined] = _EXACT_NAME_SCORE
        names["alias", joined] = _ALIAS_SCORE
    return names


def _plain_words(text: str) -> list[str]:
    """The words of a query that is nothing but a few words, in lower case; of any other, none."""
    words = text.split()
    if len(words) > _MAX_NAME_WORDS:
        return []
    plain = [word.lower().removesuffix("()").strip(".") for word in words]
    return plain if all(re.fullmatch(r"\w+(\.\w+)*", word) for word in plain) else []


def _explain(text: str, problem: Exception) -> str:
    errors = load_tantivy().query_parser_error
    quoting = "to look for the words as they are, put double quotes around them"
    if isinstance(problem, errors.FieldDoesNotExistError | errors.FieldNotIndexedError):
        fields = ", ".join(NAMED_FIELDS)
        return f"the query {text!r} names a field that cannot be searched ({problem}): use {fields}, or, {quoting}"
    if isinstance(problem, errors.AllButQueryForbiddenError):
        return f"the query {text!r} only says what to leave out: add a word to look for"
    return f"the query {text!r} cannot be read ({problem}): close what is open, or, {quoting}"
