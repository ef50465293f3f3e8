"""Secrets, kept out of what is told: of log lines, of tracebacks, of reports."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASKED = "********"

Mask = Callable[[str], str]
"""Takes secrets out of a text."""

_SHORT_CHARS = 6
# What stands before the host of an address; quotes and separators end it, so that lines of JSON stay whole.
_CREDENTIALS = re.compile(r"""(?<=://)[^\s/?#@"'<>\\,]+(?=@)""")


class Redaction:
    """Knows the secrets in force. Secrets may be added at any time, from any thread."""

    def __init__(self, *secrets: str) -> None:
        self._forms: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """From now on ``secret`` is masked; if it is an address, so are the credentials in it alone."""
        if secret in self._forms:
            return
        forms = set(self._forms)
        for part in (secret, *_credentials(secret)):
            if part.strip():
                forms |= _forms(part)
        self._forms = frozenset(forms)
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(_matching, longest_first))) if forms else None

    def mask(self, text: str) -> str:
        """``text`` without any of the secrets, and without the credentials in any address."""
        if self._pattern is not None:
            text = self._pattern.sub(MASKED, text)
        return _CREDENTIALS.sub(MASKED, text)


def mask_strings(value: Any, mask: Mask) -> Any:
    """``value``, each string in it masked. Numbers stay what they are, and so do the names of fields: a
    password of digits must not tear a number apart.

    :param value: JSON; what is no JSON is returned as it is.
    """
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {key: mask_strings(inner, mask) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mask_strings(inner, mask) for inner in value]
    return value


def _forms(secret: str) -> set[str]:
    """As it is, and as it looks in JSON, in a Python literal and in an address; also in one within another."""
    once = _escaped(secret)
    return once.union(*map(_escaped, once))


def _escaped(text: str) -> set[str]:
    return {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        quote(text, safe=""),
        quote_plus(text),
    }


def _credentials(secret: str) -> list[str]:
    try:
        address = urlsplit(secret)
        found = [address.username, address.password] if address.scheme and address.hostname else []
    except ValueError:  # not an address
        return []
    return [unquote(part) for part in found if part]


def _matching(form: str) -> str:
    """A short secret is masked where it stands alone: to mask each ``a`` would leave nothing to read."""
    escaped = re.escape(form)
    return rf"(?<!\w){escaped}(?!\w)" if len(form) < _SHORT_CHARS else escaped
