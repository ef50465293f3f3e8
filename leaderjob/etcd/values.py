"""Values that come back from etcd. Keys are text: bytes that are not UTF-8 survive as surrogates."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from leaderjob.errors import SettingsError
from leaderjob.etcd.errors import RequestRefused


def encode_key(key: str) -> bytes:
    """:raises RequestRefused: it has half a surrogate pair that stands for no byte."""
    try:
        return key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise RequestRefused(
            f"{key!r} cannot be a key: {key[error.start]!r} is half a surrogate pair, and no character; "
            "nothing was sent. Correct the key"
        ) from error


def check_value(what: str, value: bytes) -> bytes:
    """``value`` itself. :param what: it is the value of. :raises SettingsError: it is not bytes."""
    if not isinstance(value, bytes):
        raise SettingsError(
            f"the value of {what} is of type {type(value).__name__}, and etcd keeps bytes; nothing was sent. Encode it: "
            "a text with .encode()"
        )
    return value


def decode_key(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def prefix_end(prefix: str) -> bytes:
    """The end of the range of all keys that begin with ``prefix`` (etcd's ``clientv3.GetPrefixRangeEnd``)."""
    raw = bytearray(encode_key(prefix))
    while raw:
        if raw[-1] < 0xFF:
            raw[-1] += 1
            return bytes(raw)
        raw.pop()
    return b"\0"


def key_range(key: str, *, prefix: bool) -> tuple[bytes, bytes]:
    """Where a range begins and ends, as etcd wants it: ``key`` alone, or all keys that begin with it (every
    key begins with nothing)."""
    if not prefix:
        return encode_key(key), b""
    return encode_key(key) or b"\0", prefix_end(key)


class KeyValue(NamedTuple):
    """One key at one revision. ``lease`` is 0 where there is none, or where only keys were asked for."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    @classmethod
    def of(cls, kv: Any) -> "KeyValue":
        return cls(decode_key(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


class Newest(NamedTuple):
    """Of a range: how many keys there were, and the highest ``mod_revision`` among them (0: no key); and at which
    revision the store itself was when it told."""

    keys: int
    mod_revision: int
    store_revision: int


@dataclass(frozen=True, slots=True)
class RangeResult:
    """What a range held at ``revision``: ``count`` keys in all, of which ``kvs`` were asked for."""

    kvs: tuple[KeyValue, ...]
    count: int
    revision: int

    @property
    def first(self) -> KeyValue | None:
        return self.kvs[0] if self.kvs else None
