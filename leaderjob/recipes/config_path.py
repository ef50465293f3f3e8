"""Where a value is in a configuration: ``jobs.search_index.schedule``, as TOML writes dotted keys.

All of this works on plain JSON: dictionaries with text as keys, lists, and simple values. What is in a list has its
index for a name, and can be replaced; a list is made, made longer or made shorter as a whole.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from leaderjob.errors import SettingsError, printable, shown

MAX_DEPTH = 32
MAX_NAME_CHARS = 1000
MASK = "**********"
"""What stands for a secret wherever a configuration is shown, as pydantic has it."""

_SEGMENT = re.compile(r'"(?:[^"\\]|\\.)*"|[^."\s]+')
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_BARE = re.compile(r'[^."\s\\]+')

Path = tuple[str, ...]


class InvalidPath(SettingsError):
    """What should say where a value is in a configuration does not."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(
            f"{shown(path if isinstance(path, str) else repr(path))} is not a path into a configuration: {why}; write names with dots between them, and a name that "
            'has a dot itself in quotes: jobs."my.job".schedule'
        )


class Difference(NamedTuple):
    """One value of two configurations; ``None`` where ``is_set`` is false on that side."""

    path: str
    before: Any
    after: Any
    was_set: bool
    is_set: bool


def parse_path(path: str | Sequence[str]) -> Path:
    """The names in a path. :raises InvalidPath: it is none."""
    names = tuple(path) if not isinstance(path, str) else _split(path)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidPath(path, "a name in it is empty")
    if any(len(name) > MAX_NAME_CHARS for name in names):
        raise InvalidPath(path, f"a name in it has more than {MAX_NAME_CHARS} characters")
    if len(names) > MAX_DEPTH:
        raise InvalidPath(path, f"it has {len(names)} names, and {MAX_DEPTH} are allowed")
    if any("\ud800" <= character <= "\udfff" for name in names for character in name):
        raise InvalidPath(path, "it has half a surrogate pair in it, which is no character")
    return names


def _split(text: str) -> Path:
    names: list[str] = []
    at = 0
    while True:
        match = _SEGMENT.match(text, at)
        if match is None:
            raise InvalidPath(text, f"no name begins at character {at + 1}")
        names.append(_unquote(text, match[0]))
        at = match.end()
        if at == len(text):
            return tuple(names)
        if text[at] != ".":
            raise InvalidPath(text, f"a dot is missing at character {at + 1}")
        at += 1


def _unquote(text: str, name: str) -> str:
    if not name.startswith('"'):
        return name
    try:
        return str(json.loads(name))
    except json.JSONDecodeError as error:
        raise InvalidPath(text, f"{printable(name[:100])} is not text in quotes ({error.msg})") from error


def format_path(path: Sequence[str]) -> str:
    """What :func:`parse_path` makes ``path`` of."""
    return ".".join(name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in path)


def find(values: Mapping[str, Any], path: Path) -> Any:
    """:raises KeyError: nothing is set there."""
    found: Any = values
    for name in path:
        found = found[_key(found, name)]
    return found


def _key(holder: Any, name: str) -> Any:
    """What ``holder`` has ``name`` under. :raises KeyError: it has nothing of that name."""
    if isinstance(holder, Mapping) and name in holder:
        return name
    if isinstance(holder, list) and is_index(name, len(holder)):
        return int(name)
    raise KeyError(name)


def is_index(name: str, length: int) -> bool:
    """Whether ``name`` is the index of one of ``length`` elements. Any text will do: int() fails on long numbers."""
    return _INDEX.fullmatch(name) is not None and int(name) < length


def with_value(values: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy with ``value`` at ``path``; what is missing on the way, or null, becomes an object.

    :raises InvalidPath: a simple value, or a list without this index, is on the way: it would be lost.
    """
    changed = copy.deepcopy(values)
    inner: Any = changed
    for depth, name in enumerate(path):
        if isinstance(inner, dict):
            key: Any = name
            if depth < len(path) - 1 and inner.get(name) is None:
                inner[name] = {}
        else:
            try:
                key = _key(inner, name)
            except KeyError:
                kind = (
                    f"a list of {len(inner)}"
                    if isinstance(inner, list)
                    else "a value that has no names in it"
                )
                why = (
                    f"{format_path(path[:depth])} is set to {kind}, so it has no {name!r}; set it as a whole"
                )
                raise InvalidPath(format_path(path), why) from None
        if depth == len(path) - 1:
            inner[key] = value
        else:
            inner = inner[key]
    return changed


def without(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """A copy with nothing at ``path``, nor an empty object that this leaves.

    :raises KeyError: nothing is set there. :raises InvalidPath: it is an element of a list.
    """
    find(values, path)
    changed = copy.deepcopy(values)
    if isinstance(find(changed, path[:-1]), list):
        raise InvalidPath(format_path(path), "it is an element of a list, which is set as a whole")
    for depth in range(len(path), 0, -1):
        holder = find(changed, path[: depth - 1])
        if isinstance(holder, list):
            break
        if depth == len(path) or holder[path[depth - 1]] == {}:
            del holder[path[depth - 1]]
    return changed


def differences(
    before: dict[str, Any],
    after: dict[str, Any],
    *,
    shown: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values,
) -> tuple[Difference, ...]:
    """Value by value, in the order of their paths.

    :param shown: makes of all values what of them is in the differences: masked, where they are secret.
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    old_shown, new_shown = shown(before), shown(after)
    return tuple(
        Difference(
            format_path(path),
            _shown(old_shown, path) if path in old else None,
            _shown(new_shown, path) if path in new else None,
            path in old,
            path in new,
        )
        for path in sorted(old.keys() | new.keys())
        # As JSON: to Python, 1 and true are the same.
        if path not in old or path not in new or json.dumps(old[path]) != json.dumps(new[path])
    )


def _shown(values: dict[str, Any], path: Path) -> Any:
    try:
        return find(values, path)
    except KeyError:  # it is part of a secret, which is masked as a whole
        return MASK


def _leaves(values: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in values.items():
        path = (*above, name)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value
