"""What a configuration is in etcd: one document, and one entry of its history for each change."""

import getpass
import json
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pydantic import ValidationError

from leaderjob.errors import SettingsError
from leaderjob.etcd import KeyValue
from leaderjob.model.record import Record
from leaderjob.recipes.config_model import sentence
from leaderjob.telemetry.events import Events, emit

MAX_DOCUMENT_BYTES = 128 * 1024
"""Of what is set. An entry of the history has it twice, in the same request, and a reader reads all of them."""

_NUMBER = re.compile(r"[0-9]{10,}")


class _Json(Record):
    """As its fields are: what is null in a configuration was set to that."""

    def to_bytes(self) -> bytes:
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False).encode()


class Document(_Json):
    """``config/<name>/current``: what is set, and by which change (its number in the history)."""

    number: int
    by: str
    at: datetime
    values: dict[str, Any]


class ConfigEntry(_Json):
    """``config/<name>/history/<number>``: one change.

    :param id: random, by which the change finds its own entry again.
    :param what: was done: ``set jobs.search_index.schedule``.
    :param before: what was set before it; None: nobody could read that.
    :param after: what was set after it.
    """

    number: int
    id: str
    by: str
    at: datetime
    what: str
    before: dict[str, Any] | None
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Keys:
    """:param root: the place of the configuration, with a trailing slash."""

    root: str

    @property
    def current(self) -> str:
        return f"{self.root}current"

    @property
    def history(self) -> str:
        return f"{self.root}history/"

    def entry(self, number: int) -> str:
        return f"{self.history}{number:010}"

    def number(self, key: str) -> int | None:
        """Of an entry's key; None: it is none."""
        name = key.removeprefix(self.history)
        return int(name) if _NUMBER.fullmatch(name) and key == self.entry(int(name)) else None


@dataclass(frozen=True, slots=True)
class Stored:
    """All that is below the root at one revision.

    :param current: the key, whatever is in it. :param entries: by their numbers, oldest first, those that can be read.
    :param number: the highest that was ever given, as far as that is known.
    """

    current: KeyValue | None
    entries: dict[int, ConfigEntry]
    number: int

    @classmethod
    def of(cls, keys: Keys, kvs: Iterable[KeyValue]) -> Self:
        """Tells of each foreign value in the history."""
        current: KeyValue | None = None
        numbers = [0]
        entries: dict[int, ConfigEntry] = {}
        for kv in kvs:
            number = keys.number(kv.key)
            if kv.key == keys.current:
                current = kv
                numbers.extend(_number_in(kv))
            elif number is None:
                emit(
                    Events.CONFIG_INVALID,
                    key=kv.key,
                    reason="it is no key of a configuration; it is left out",
                )
            else:
                numbers.append(number)
                entry = _entry(kv, number)
                if entry is not None:
                    entries[number] = entry
        return cls(current, dict(sorted(entries.items())), max(numbers))


def read_document(kv: KeyValue) -> Document:
    """:raises ValueError: it is none; why."""
    try:
        return Document.from_bytes(kv.value)
    except ValidationError as error:
        raise ValueError(f"it is not the document of a configuration: {sentence(error)}") from error


def check_size(key: str, values: dict[str, Any]) -> None:
    """:raises ConfigTooLarge: they are larger than a document may be."""
    size_bytes = len(json.dumps(values, ensure_ascii=False).encode())
    if size_bytes > MAX_DOCUMENT_BYTES:
        raise ConfigTooLarge(key, size_bytes)


class ConfigTooLarge(SettingsError):
    """What is set is more than a configuration may hold. Nothing was changed."""

    def __init__(self, key: str, size_bytes: int) -> None:
        super().__init__(
            f"the configuration {key} would be {size_bytes} bytes, and {MAX_DOCUMENT_BYTES} are allowed; nothing was "
            "changed: keep large values elsewhere, and their places here",
        )


def whoami() -> str:
    """``user@host`` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _number_in(kv: KeyValue) -> Iterable[int]:
    try:
        return (read_document(kv).number,)
    except ValueError:
        return ()


def _entry(kv: KeyValue, number: int) -> ConfigEntry | None:
    try:
        entry = ConfigEntry.from_bytes(kv.value)
    except ValidationError as error:
        emit(Events.CONFIG_INVALID, key=kv.key, reason=f"no entry of a history: {sentence(error)}")
        return None
    if entry.number != number:
        emit(Events.CONFIG_INVALID, key=kv.key, reason=f"an entry of another key: it says {entry.number}")
        return None
    return entry
