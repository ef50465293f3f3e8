"""The recipes' own values: JSON objects with a version, made for people to read with ``etcdctl``."""

import json
from typing import Any

from leaderjob.errors import SettingsError
from leaderjob.etcd import KeyValue
from leaderjob.telemetry.events import Events, emit

_VERSION = 1


def encode(**fields: Any) -> bytes:
    """A record. :raises TypeError: a field is nothing that JSON has. :raises SettingsError: one is no text."""
    try:
        return json.dumps({"v": _VERSION, **fields}, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"{error.object[error.start]!r} is half a character, so this is no text, and nothing was written: it may be "
            "the name of a file whose bytes are no UTF-8"
        ) from error


class Oddities:
    """What is told as an event because nobody can read it: each version of a value once, however often it is found."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def tell(self, kv: KeyValue, reason: str) -> None:
        if self._told.get(kv.key) != kv.mod_revision:
            self._told[kv.key] = kv.mod_revision
            emit(Events.RECORD_QUARANTINED, key=kv.key, reason=reason)


def decode(
    kv: KeyValue, oddities: Oddities | None = None, /, **kinds: type | tuple[type, ...]
) -> dict[str, Any] | None:
    """The record at ``kv``; None where it is not one of ours, which is told as an event.

    :param oddities: of who may find it there again. :param kinds: the fields that it must have, and of what type each is.
    """
    try:
        record = json.loads(kv.value)
    except (ValueError, RecursionError):  # not JSON, not even text, or nothing that anybody would write
        record = None
    if (
        isinstance(record, dict)
        and record.get("v") == _VERSION
        and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    ):
        return record
    (oddities or Oddities()).tell(kv, f"it is no record with v = 1 and {', '.join(kinds)}")
    return None
