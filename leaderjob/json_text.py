"""The JSON that leaderjob accepts: one dialect and one bound for results, parameters, queries, answers and messages.

A value is null, a boolean, a finite number, text, a list, or an object whose keys are text. It is nested at most
100 levels deep, its integers have at most 640 digits, its text has no unpaired surrogates, and its size is counted in
bytes of UTF-8. Every reader in use can read what is within these bounds: pydantic stops at 200 levels, and no
interpreter can be configured to refuse integers of 640 digits. What is outside of them is refused where it arises.

Imports the standard library only, because worker processes use it.
"""

import json
import math
import reprlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from leaderjob.sdk import Json

RESULT_LIMIT_BYTES = 256 * 1024
PARAMS_LIMIT_BYTES = 256 * 1024
QUERY_LIMIT_BYTES = 1024 * 1024
ANSWER_LIMIT_BYTES = 4 * 1024 * 1024
DEPTH_LIMIT = 100
INTEGER_LIMIT_DIGITS = 640

_INTEGER_BOUND = 10**INTEGER_LIMIT_DIGITS
_CONTAINERS = (dict, list, tuple)
_NUMBERS = frozenset({int, float})


class InvalidJson(ValueError):
    """A value is not JSON within the bounds. The message says where in the value, and why."""


class JsonTooLarge(InvalidJson):
    """A value has more bytes than allowed."""

    def __init__(self, size_bytes: int, limit_bytes: int, *, at_least: bool = False) -> None:
        more = "at least " if at_least else ""
        super().__init__(f"it has {more}{size_bytes} bytes of JSON, more than {limit_bytes}")


def encode(value: object, limit_bytes: int, *, levels: int = DEPTH_LIMIT) -> bytes:
    """``value`` as JSON in UTF-8. Tuples become lists.

    :raises InvalidJson: it is not JSON within the bounds.
    """
    check(value, limit_bytes, levels=levels)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > limit_bytes:
        raise JsonTooLarge(len(text), limit_bytes)
    return text


def decode(text: bytes | str, limit_bytes: int, *, levels: int = DEPTH_LIMIT) -> Json:
    """The value of a JSON text.

    :raises InvalidJson: it is not JSON within the bounds, or an object has the same key twice.
    """
    if len(text) > limit_bytes:
        raise JsonTooLarge(len(text), limit_bytes)
    try:
        value = json.loads(
            text.decode() if isinstance(text, bytes) else text, object_pairs_hook=_without_duplicates
        )
    except RecursionError:
        raise InvalidJson(_too_deep(levels)) from None
    except InvalidJson:
        raise
    except ValueError as error:
        raise InvalidJson(f"it is not JSON: {error}") from error
    check(value, limit_bytes, levels=levels)
    return value


def check(value: object, limit_bytes: int, *, levels: int = DEPTH_LIMIT) -> None:
    """Check a value that is about to be written, or that another parser has read.

    Visits at most as many members as ``limit_bytes`` of text can have.

    :raises InvalidJson: it is not JSON within the bounds.
    """
    # Not recursive: where a job has raised the recursion limit, a value that is too deep would crash its process.
    above: list[Iterator[tuple[Any, Any]]] = [iter([("", value)])]
    path: list[Any] = [""]
    size_bytes = 0
    while above:
        for key, member in above[-1]:
            path[-1] = key
            kind = type(member)
            if kind is str and member.isascii():
                size_bytes += len(member) + 2
            elif isinstance(member, _CONTAINERS):
                if len(above) > levels:
                    raise InvalidJson(_too_deep(levels))
                if isinstance(member, list) and _are_numbers(member):
                    size_bytes += 2 * len(member)
                    continue
                size_bytes += 2
                if isinstance(member, dict):
                    size_bytes += sum(_key_bytes(name, path) for name in member)
                above.append(iter(member.items() if isinstance(member, dict) else enumerate(member)))
                path.append(None)
                break
            else:
                size_bytes += _scalar_bytes(member, path)
            if size_bytes > limit_bytes:
                raise JsonTooLarge(size_bytes, limit_bytes, at_least=True)
        else:
            above.pop()
            path.pop()
        if size_bytes > limit_bytes:
            raise JsonTooLarge(size_bytes, limit_bytes, at_least=True)


def is_json(value: object, limit_bytes: int) -> bool:
    """Whether ``value`` is JSON within the bounds."""
    try:
        check(value, limit_bytes)
    except InvalidJson:
        return False
    return True


def _too_deep(levels: int) -> str:
    return f"it is nested more than {levels} levels deep"


def _scalar_bytes(member: Any, path: list[Any]) -> int:
    """At least how many bytes ``member`` needs."""
    if isinstance(member, str):
        return _text_bytes(member, path)
    if member is None or isinstance(member, bool):
        return 4
    if isinstance(member, int):
        if not -_INTEGER_BOUND < member < _INTEGER_BOUND:
            raise InvalidJson(f"{_at(path)}an integer has more than {INTEGER_LIMIT_DIGITS} digits")
        return 1
    if isinstance(member, float):
        if not math.isfinite(member):
            raise InvalidJson(f"{_at(path)}{float(member)!r} is not a finite number")
        return 3
    raise InvalidJson(f"{_at(path)}{type(member).__name__} is not a JSON type")


def _are_numbers(members: list[Any]) -> bool:
    """Whether all are finite numbers, quickly; False where that takes a closer look."""
    if not members or type(members[0]) not in _NUMBERS or not _NUMBERS.issuperset(map(type, members)):
        return False
    try:
        return all(map(math.isfinite, members))
    except OverflowError:  # an integer beyond every float
        return False


def _key_bytes(key: Any, path: list[Any]) -> int:
    if not isinstance(key, str):
        raise InvalidJson(f"{_at(path)}a key is of type {type(key).__name__}, and keys have to be text")
    return len(key) + 3 if key.isascii() else _text_bytes(key, path) + 1


def _text_bytes(text: str, path: list[Any]) -> int:
    if text.isascii():
        return len(text) + 2
    try:
        return len(text.encode()) + 2
    except UnicodeEncodeError as error:
        surrogate = text[error.start].encode("ascii", "backslashreplace").decode()
        raise InvalidJson(f"{_at(path)}the text has an unpaired surrogate ({surrogate})") from None


def _at(path: list[Any]) -> str:
    """Where in the value, as Python would index it; empty for the value itself."""
    return f"at {''.join(f'[{reprlib.repr(key)}]' for key in path[1:])}: " if len(path) > 1 else ""


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = max(counts, key=counts.__getitem__)
        raise InvalidJson(f"the key {reprlib.repr(twice)} comes twice in an object")
    return members
