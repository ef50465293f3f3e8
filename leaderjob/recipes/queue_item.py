"""What is in a queue: items, waiting or dead, and their records in etcd."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from leaderjob.errors import LeaderjobError
from leaderjob.etcd import KeyValue, ValueTooLarge
from leaderjob.etcd.txn import MAX_REQUEST_BYTES
from leaderjob.etcd.values import check_value
from leaderjob.recipes.place import place

_ROOM_FOR_KEYS_BYTES = 4096
MAX_RECORD_BYTES = MAX_REQUEST_BYTES - _ROOM_FOR_KEYS_BYTES
"""A record goes along with other keys, when it is claimed or buried."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item, as it was when it was read.

    :param id: unique; it stays the same as long as the item is in the queue or among its dead letters.
    :param tries: how many consumers were given it so far.
    """

    id: str
    value: bytes
    tries: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item with its key, of one revision."""

    item: Item
    key: str
    create_revision: int
    mod_revision: int


class NoRecord(LeaderjobError):
    """A value in a queue is none that a queue writes."""


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue. :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key."""

    root: str

    @classmethod
    def of(cls, name: str, namespace: str) -> "QueueKeys":
        return cls(place("queues", name, namespace))

    @property
    def items(self) -> str:
        return f"{self.root}items/"

    @property
    def claims(self) -> str:
        return f"{self.root}claims/"

    @property
    def dead(self) -> str:
        return f"{self.root}dead/"

    @property
    def receipts(self) -> str:
        return f"{self.root}receipts/"

    def claim_of(self, item_id: str) -> str:
        return self.claims + item_id


def encode(value: bytes, tries: int) -> bytes:
    """The record of an item: readable where the value is text."""
    record: dict[str, Any] = {"v": 1, "tries": tries}
    try:
        record["text"] = value.decode()
    except UnicodeDecodeError:
        record["base64"] = base64.b64encode(value).decode("ascii")
    return json.dumps(record, ensure_ascii=False).encode()


def encode_new(value: bytes) -> bytes:
    """The record of an item that nobody has tried yet.

    :raises SettingsError: the value is not bytes. :raises ValueTooLarge: etcd would not take it, now or later.
    """
    record = encode(check_value("an item of a queue", value), 0)
    if len(record) > MAX_RECORD_BYTES:
        raise ValueTooLarge("an item of a queue, with its record", len(record), MAX_RECORD_BYTES, "bytes")
    return record


def decode(kv: KeyValue, prefix: str) -> Item:
    """:param prefix: of its key, before the id. :raises NoRecord: the value is none."""
    item_id = kv.key.removeprefix(prefix)
    if not item_id or "/" in item_id:
        raise NoRecord("its key does not end in an id")
    try:
        record = json.loads(kv.value)
    except ValueError as error:
        raise NoRecord(f"not JSON: {error}") from error
    except RecursionError as error:
        raise NoRecord("JSON that is nested too deeply") from error
    if not isinstance(record, dict) or record.get("v") != 1:
        raise NoRecord('not an object with "v": 1')
    tries, text, encoded = record.get("tries"), record.get("text"), record.get("base64")
    if not isinstance(tries, int) or isinstance(tries, bool) or tries < 0:
        raise NoRecord('"tries" is not a number of tries')
    if isinstance(text, str) == isinstance(encoded, str):
        raise NoRecord('it has not one of "text" and "base64"')
    try:
        value = text.encode() if isinstance(text, str) else base64.b64decode(str(encoded), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise NoRecord(f"its value cannot be decoded: {error}") from error
    return Item(item_id, value, tries)
