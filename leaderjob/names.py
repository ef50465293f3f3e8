"""What may be a name: a part of a key, and of a path."""

import re

from leaderjob.errors import InvalidName

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}")


def valid_name(name: str) -> bool:
    """Whether ``name`` may be part of a key: no ``/``, so that no prefix nests in another."""
    return _NAME.fullmatch(name) is not None


def check_name(kind: str, name: str) -> str:
    """``name`` itself, if it may be part of a key. :raises InvalidName: it may not."""
    if not valid_name(name):
        raise InvalidName(kind, name)
    return name
