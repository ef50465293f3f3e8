"""etcd through its HTTP gateway: a way that shares no code with the client under test."""

import base64
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from leaderjob.etcd import KeyValue


class GatewaySilent(Exception):
    """The member does not answer, or its answer broke off; another one may."""


class GatewayCompacted(Exception):
    """What was asked for is compacted away. :param revision: the first one that is still there."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"compacted at revision {revision}")
        self.revision = revision


@dataclass(frozen=True, slots=True)
class Event:
    """``now`` has no value where the key was ``deleted``."""

    deleted: bool
    now: KeyValue
    before: KeyValue | None


class Gateway:
    """One connection to one member. :param source: the address to come from, if it matters."""

    def __init__(self, endpoint: str, *, source: str | None = None, timeout_s: float = 2.0) -> None:
        host, _, port = endpoint.rpartition(":")
        address = (source, 0) if source else None
        self._connection = http.client.HTTPConnection(host, int(port), timeout_s, address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        """End what another thread waits for here."""
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    def watch(self, prefix: str, start_revision: int) -> Iterator[tuple[Event, ...]]:
        """The events of whole revisions, from ``start_revision`` on, as they come.

        :raises GatewaySilent: nothing was heard for the timeout, or the stream has ended.
        :raises GatewayCompacted: it is too late for that.
        """
        create = {**_range(prefix), "start_revision": str(start_revision), "prev_kv": True}
        response = self._post("/v3/watch", {"create_request": create})
        while True:
            message = self._line(response).get("result")
            if message is None:
                raise GatewaySilent("the member ended the watch")
            if message.get("canceled"):
                if compacted := int(message.get("compact_revision", 0)):
                    raise GatewayCompacted(compacted)
                raise GatewaySilent(f"the member ended the watch: {message.get('cancel_reason')}")
            if events := message.get("events"):
                yield tuple(_event(event) for event in events)

    def listing(self, prefix: str) -> tuple[dict[str, KeyValue], int]:
        """The keys below the prefix as a linearizable read shows them, and at which revision."""
        found = self._call("/v3/kv/range", _range(prefix))
        return _by_key(found), int(found["header"]["revision"])

    def range(self, prefix: str, *, revision: int) -> dict[str, KeyValue]:
        """The keys below the prefix as they were at a revision."""
        return _by_key(self._call("/v3/kv/range", {**_range(prefix), "revision": str(revision)}))

    def put(self, key: str, value: bytes) -> int:
        """The revision at which it was written."""
        done = self._call("/v3/kv/put", {"key": _encoded(key.encode()), "value": _encoded(value)})
        return int(done["header"]["revision"])

    def delete(self, key: str) -> int:
        """The revision at which it was deleted."""
        return int(self._call("/v3/kv/deleterange", {"key": _encoded(key.encode())})["header"]["revision"])

    def leases(self) -> frozenset[int]:
        """All leases that the member knows, those of others too."""
        found = self._call("/v3/lease/leases", {})
        return frozenset(int(lease["ID"]) for lease in found.get("leases", ()))

    def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        response = self._post(path, body)
        try:
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise GatewaySilent(f"{path}: {error}") from error
        if response.status != 200:
            raise GatewaySilent(f"{path}: {answer}")
        return answer

    def _post(self, path: str, body: Mapping[str, Any]) -> http.client.HTTPResponse:
        try:
            self._connection.request("POST", path, json.dumps(body))
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise GatewaySilent(f"{path}: {error}") from error

    @staticmethod
    def _line(response: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            line = response.readline()
            message: dict[str, Any] = json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise GatewaySilent(f"the stream broke: {error}") from error
        return message


def _range(prefix: str) -> dict[str, str]:
    key = prefix.encode()
    return {"key": _encoded(key), "range_end": _encoded(key[:-1] + bytes([key[-1] + 1]))}


def _by_key(found: Mapping[str, Any]) -> dict[str, KeyValue]:
    kvs = [_key_value(kv) for kv in found.get("kvs", ())]
    return {kv.key: kv for kv in kvs}


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _event(event: Mapping[str, Any]) -> Event:
    before = _key_value(event["prev_kv"]) if "prev_kv" in event else None
    return Event(event.get("type") == "DELETE", _key_value(event["kv"]), before)


def _key_value(kv: Mapping[str, Any]) -> KeyValue:
    """Numbers travel as text, and what is zero or empty is left out."""
    return KeyValue(
        base64.b64decode(kv["key"]).decode("utf-8", "surrogateescape"),
        base64.b64decode(kv.get("value", "")),
        int(kv.get("create_revision", 0)),
        int(kv.get("mod_revision", 0)),
        int(kv.get("version", 0)),
        int(kv.get("lease", 0)),
    )
