"""One instance of a service, and the value under its key: the format of Go's ``naming/endpoints``.

The format (etcd ``client/v3/naming/endpoints/internal/update.go``) is ``{"Op": 0, "Addr": …, "Metadata": …}`` under
``<target>/<anything>``; grpc-go resolves it.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from leaderjob.errors import SettingsError
from leaderjob.etcd import Batch, EventKind, KeyValue
from leaderjob.telemetry.events import Events, emit

_ADD = 0
_HIGHEST_PORT = 65535
_LONGEST_HOST_NAME = 253
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


@dataclass(frozen=True, slots=True)
class Instance:
    """Where a service can be reached.

    :param key: of its entry. :param address: ``HOST:PORT``. :param revision: at which the entry was created.
    :param metadata: what was registered with it. What others wrote is handed out as it is: any JSON value.
    """

    key: str
    address: str
    metadata: Any = field(default_factory=dict, hash=False)
    revision: int = 0


def check_address(address: str) -> str:
    """``address`` itself, if others can connect to it. :raises SettingsError: it is not HOST:PORT, or no one host."""
    host, _, port = address.rpartition(":")
    literal = _literal(host)
    if (literal is None and not _is_host_name(host)) or not _is_port(port):
        raise SettingsError(
            f"address {address!r} is not HOST:PORT, so nobody could connect to it: name the host (or its address; "
            "IPv6 in brackets) under which others reach this instance, and a port from 1 to 65535"
        )
    if literal is not None and literal.is_unspecified:
        raise SettingsError(
            f"address {address!r} is every address of this host, and leads others to themselves: name the one that "
            "they reach this instance by"
        )
    return address


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that it is, if it is one. None has a zone (``%eth0``): that means something on one host only."""
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        if not bracketed:
            return ipaddress.IPv4Address(host)
        address = ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return None
    return None if address.scope_id else address.ipv4_mapped or address


def _is_host_name(host: str) -> bool:
    """Its last label is no number: resolvers take ``0``, ``127.1`` and ``0x7f.1`` for IPv4 addresses."""
    labels = host.removesuffix(".").split(".")
    named = len(host) <= _LONGEST_HOST_NAME and all(_LABEL.fullmatch(label) for label in labels)
    return named and _NUMBER.fullmatch(labels[-1]) is None


def _is_port(port: str) -> bool:
    return _PORT.fullmatch(port) is not None and 0 < int(port) <= _HIGHEST_PORT


def encode(address: str, metadata: Mapping[str, Any]) -> bytes:
    """The value of an entry. :raises SettingsError: the metadata is not JSON.

    The metadata is a JSON object inside a string, as etcd's own proxy has it: grpc-go compares addresses with ``==``,
    which panics where it finds an object (etcd #19700, grpc-go #8225).
    """
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False) if metadata else None
        return json.dumps({"Op": _ADD, "Addr": address, "Metadata": text}, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the metadata of {address} cannot be written as JSON: {error}") from error


def decode(kv: KeyValue) -> Instance | None:
    """The instance of an entry; None, and an event that says so, where it is none."""
    try:
        value = json.loads(kv.value)
    except (ValueError, RecursionError) as error:
        _tell_foreign(kv, f"not JSON: {error}")
        return None
    if not isinstance(value, dict):
        _tell_foreign(kv, "not a JSON object")
        return None
    fields = {name.lower(): each for name, each in value.items()}  # Go does not mind the case
    address = fields.get("addr")
    if not isinstance(address, str):
        _tell_foreign(kv, 'no address: a string "Addr" is expected')
        return None
    try:
        check_address(address)
    except SettingsError as error:
        _tell_foreign(kv, str(error))
        return None
    return Instance(kv.key, address, _metadata(fields.get("metadata")), kv.create_revision)


def _metadata(found: Any) -> Any:
    if found is None:
        return {}
    if isinstance(found, str):
        try:
            inside = json.loads(found)
        except (ValueError, RecursionError):
            return found
        return inside if isinstance(inside, dict) else found
    return found


def _tell_foreign(kv: KeyValue, reason: str) -> None:
    emit(Events.RECORD_QUARANTINED, key=kv.key, reason=f"it is no instance of a service: {reason}")


class Change(NamedTuple):
    """``created``, ``updated`` or ``deleted``; ``instance`` as it is now, or as it was."""

    kind: EventKind
    instance: Instance


class Instances:
    """The instances of one service, as told batch by batch."""

    def __init__(self) -> None:
        self._by_key: dict[str, Instance] = {}

    @property
    def now(self) -> tuple[Instance, ...]:
        """Those who are there, the oldest entry first."""
        return tuple(sorted(self._by_key.values(), key=lambda each: (each.revision, each.key)))

    def take(self, batch: Batch) -> tuple[Change, ...]:
        """What the batch changes."""
        changes = []
        for event in batch.events:
            before = self._by_key.pop(event.key, None)
            now = decode(event.now) if event.now is not None else None
            if now is not None:
                self._by_key[event.key] = now
                kind = EventKind.CREATED if before is None else EventKind.UPDATED
                changes.append(Change(kind, now))
            elif before is not None:
                changes.append(Change(EventKind.DELETED, before))
        return tuple(changes)
