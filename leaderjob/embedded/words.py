"""Words to search for in a corpus that nobody here knows."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

PYTHON_QUERIES = ("subprocess Popen", "json dumps", "temporary directory", "asyncio gather", "http server")
_WORD = re.compile(r"[A-Za-z]{5,20}")
_FILES = 200
_READ_BYTES = 64 * 1024
_MARKUP = frozenset(
    {"class", "style", "script", "https", "title", "return", "import", "const", "false", "true"}
)


def queries_for(corpus: str, count: int) -> list[str]:
    """``count`` queries that should find something: for the Python corpus known ones, else words that
    many of its files have in common. Too few words are repeated; none at all gives an empty list."""
    words = list(PYTHON_QUERIES) if corpus == "python" else _frequent_words(Path(corpus))
    return [words[index % len(words)] for index in range(count)] if words else []


def _frequent_words(corpus: Path) -> list[str]:
    files: Counter[str] = Counter()
    for text in islice(_texts(corpus), _FILES):
        files.update({word.lower() for word in _WORD.findall(text)} - _MARKUP)
    return [word for word, _ in files.most_common(5)]


def _texts(corpus: Path) -> Iterator[str]:
    if corpus.is_file():
        with corpus.open(errors="replace") as lines:
            for line in lines:
                try:
                    fields = json.loads(line)
                except ValueError:
                    continue
                yield " ".join(str(value) for value in fields.values()) if isinstance(fields, dict) else ""
        return
    for path in sorted(corpus.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(corpus).parts)
        if path.is_file() and not hidden:
            with path.open("rb") as file:
                content = file.read(_READ_BYTES)
            if b"\0" not in content:
                yield content.decode(errors="replace")
