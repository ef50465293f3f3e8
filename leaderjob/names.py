"""What may be a name: a part of a key, and of a path."""

import re
from typing import Annotated

from pydantic import AfterValidator

from leaderjob.errors import InvalidName

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}")
_SHOWN_CHARS = 120


def valid_name(name: str) -> bool:
    """Whether ``name`` may be part of a key: no ``/``, so that no prefix nests in another."""
    return _NAME.fullmatch(name) is not None


def check_name(kind: str, name: str) -> str:
    """``name`` itself, if it may be part of a key. :raises InvalidName: it may not."""
    if not valid_name(name):
        raise InvalidName(kind, name)
    return name


def _validate(name: str) -> str:
    if not valid_name(name):
        shown = name if len(name) <= _SHOWN_CHARS else f"{name[:_SHOWN_CHARS]}…"
        raise ValueError(
            f"{shown!r} is not a name: lower-case letters, digits, '.', '_' and '-', at most 120, "
            "beginning with a letter or digit"
        )
    return name


Name = Annotated[str, AfterValidator(_validate)]
"""A field of a record that becomes a part of a key or of a path."""
